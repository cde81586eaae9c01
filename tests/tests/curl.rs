//! curl over both HTTP versions, and the shapes that an answer can have on the wire.

use std::time::Duration;

use meter_tests::{
    harness::{
        Lab, Shell, assert_rows_match,
        chat::{Chat, curl, status},
        wait_for,
    },
    simulator::directive::{Directive, Encoding},
};

/// Enough for every request of a test, a request without a ceiling included.
const PLENTY: &str = "5";

fn shell(lab: &Lab) -> Shell {
    Shell::open(&lab.agent("curl"))
}

#[test]
fn both_http_versions_reach_the_provider_as_the_client_spoke() {
    let lab = Lab::with_budget("curl", PLENTY);
    let mut shell = shell(&lab);
    for (option, version) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2.0")] {
        for chat in [Chat::ordinary(), Chat::ordinary().stream()] {
            let printed = shell.run(&chat.options(option).curl());
            assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
            let exchange = lab.simulator.exchanges().pop().unwrap();
            assert_eq!(exchange.version, version, "{}", printed.stdout);
        }
    }
    assert_rows_match(&lab.daemon.ledger("curl"), &lab.simulator.exchanges());
}

#[test]
fn one_connection_carries_several_requests() {
    let lab = Lab::with_budget("curl", PLENTY);
    let mut shell = shell(&lab);
    let one = Chat::ordinary().curl();
    let arguments = one.strip_prefix("curl").unwrap();
    shell.run(&format!("curl {arguments} --next {arguments} --next {arguments}")).expect_code(0);
    let exchanges = lab.simulator.exchanges();
    assert_eq!(exchanges.len(), 3);
    assert_rows_match(&lab.daemon.ledger("curl"), &exchanges);
}

#[test]
fn the_provider_sees_one_connection_for_an_agents_calls_one_after_the_other() {
    let lab = Lab::with_budget("curl", PLENTY);
    let mut shell = shell(&lab);
    for call in 1..=3 {
        shell.run(&Chat::ordinary().curl()).expect_code(0);
        // The row is written after the answer's end, from when on the connection is free.
        wait_for("the row", Duration::from_secs(5), || (lab.daemon.ledger("curl").len() == call).then_some(()));
    }
    assert_eq!(lab.simulator.connections().len(), 1, "the upstream connection was not kept");
}

#[test]
fn compressed_answers_are_metered_and_not_one_byte_is_changed() {
    let lab = Lab::with_budget("curl", PLENTY);
    let mut shell = shell(&lab);
    for encoding in [Encoding::Gzip, Encoding::Br, Encoding::Zstd, Encoding::Deflate] {
        let chat = Chat::ordinary().with(|directive| {
            directive.encoding = Some(encoding);
            directive.size = Some(100_000);
        });
        // Without --compressed curl writes what came over the wire.
        let options = format!(
            "-H 'accept-encoding: {}' -o /dev/null -w '%{{size_download}} %header{{content-encoding}}'",
            encoding.token()
        );
        let body = chat.body();
        let line = format!(
            "curl -sS {options} -H 'content-type: application/json' -d '{body}' https://api.openai.com/v1/chat/completions; echo"
        );
        let printed = shell.run(&line);
        printed.expect_code(0);
        let exchange = lab.simulator.exchanges().pop().unwrap();
        assert_eq!(exchange.encoding.as_deref(), Some(encoding.token()));
        assert_eq!(printed.stdout.trim(), format!("{} {}", exchange.response_bytes, encoding.token()));
    }
    assert_rows_match(&lab.daemon.ledger("curl"), &lab.simulator.exchanges());
}

#[test]
fn an_answer_of_5_mb_arrives_whole() {
    let lab = Lab::with_budget("curl", PLENTY);
    let mut shell = shell(&lab);
    for version in ["--http1.1", "--http2"] {
        let chat = Chat::ordinary().with(|directive| {
            directive.size = Some(5_000_000);
            directive.chunks = Some(50);
        });
        // The status is one more line after the body's own bytes.
        let printed = shell.run(&format!("{} | wc -c", chat.options(version).curl()));
        let exchange = lab.simulator.exchanges().pop().unwrap();
        assert!(exchange.response_bytes > 5_000_000);
        assert_eq!(printed.stdout.trim(), (exchange.response_bytes + "\n200\n".len() as u64).to_string());
    }
    assert_rows_match(&lab.daemon.ledger("curl"), &lab.simulator.exchanges());
}

#[test]
fn a_stream_written_one_byte_at_a_time_is_metered_and_unchanged() {
    let lab = Lab::with_budget("curl", PLENTY);
    let mut shell = shell(&lab);
    for version in ["--http1.1", "--http2"] {
        let chat = Chat::ordinary().stream().options(&format!("-N {version}"));
        let chat = chat.with(|directive| directive.bytewise = true);
        let printed = shell.run(&chat.curl());
        printed.expect_code(0);
        assert!(printed.stdout.contains("data: [DONE]"), "{}", printed.stdout);
        assert!(!printed.stdout.contains("\"usage\""), "the agent did not ask for usage: {}", printed.stdout);
        let exchange = lab.simulator.exchanges().pop().unwrap();
        assert_eq!(exchange.request["stream_options"]["include_usage"], true);
    }
    assert_rows_match(&lab.daemon.ledger("curl"), &lab.simulator.exchanges());
}

#[test]
fn a_stream_that_asked_for_usage_keeps_its_event() {
    let lab = Lab::with_budget("curl", PLENTY);
    let mut body: serde_json::Value = serde_json::from_str(&Chat::ordinary().stream().body()).unwrap();
    body["stream_options"] = serde_json::json!({"include_usage": true});
    let printed = shell(&lab).run(&curl("https://api.openai.com/v1/chat/completions", &body.to_string(), "-N"));
    assert!(printed.stdout.contains("\"prompt_tokens\":300"), "{}", printed.stdout);
    assert!(printed.stdout.contains("\"usage\":null"), "{}", printed.stdout);
    assert_rows_match(&lab.daemon.ledger("curl"), &lab.simulator.exchanges());
}

#[test]
fn embeddings_cost_their_input_alone() {
    let lab = Lab::with_budget("curl", PLENTY);
    let prompt = Directive { input: Some(5000), ..Directive::default() }.prompt() + &" and".repeat(5000);
    let body = serde_json::json!({"model": "text-embedding-3-small", "input": prompt}).to_string();
    let printed = shell(&lab).run(&curl("https://api.openai.com/v1/embeddings", &body, ""));
    assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
    let rows = lab.daemon.ledger("curl");
    assert_rows_match(&rows, &lab.simulator.exchanges());
    assert_eq!(rows[0].cost(), 5000 * 20_000);
}

#[test]
fn an_error_of_the_provider_costs_nothing_and_passes_unchanged() {
    let lab = Lab::with_budget("curl", PLENTY);
    let mut shell = shell(&lab);
    for code in [400, 429, 500] {
        let printed = shell.run(&Chat::ordinary().with(|directive| directive.status = Some(code)).curl());
        assert_eq!(status(&printed.stdout), code, "{}", printed.stdout);
        assert!(printed.stdout.contains("refused by its directive"), "{}", printed.stdout);
    }
    assert_rows_match(&lab.daemon.ledger("curl"), &lab.simulator.exchanges());
    assert_eq!(lab.daemon.account("curl").spent(), 0);
}

#[test]
fn a_cut_answer_is_seen_as_cut_and_consumes_its_hold() {
    let mut lab = Lab::with_budget("curl", PLENTY);
    lab.daemon.expect_log("cut");
    let mut shell = shell(&lab);
    for (version, code) in [("--http1.1", 18), ("--http2", 92)] {
        let line = Chat::ordinary().stream().options(version).with(|directive| directive.cut_after = Some(2)).curl();
        shell.run(&line).expect_code(code);
    }
    let rows = lab.daemon.ledger("curl");
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!(row.outcome, "cut", "{row:#?}");
        assert_ne!(row.usage_quality, "exact", "{row:#?}");
        assert!(row.cost() > 0, "what was sent and not told is not free: {row:#?}");
    }
}

#[test]
fn a_request_without_a_ceiling_is_given_one_that_fits() {
    let lab = Lab::with_budget("curl", "0.05");
    let printed = shell(&lab).run(&Chat::ordinary().ceiling(None).curl());
    assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
    let rows = lab.daemon.ledger("curl");
    let exchanges = lab.simulator.exchanges();
    assert_rows_match(&rows, &exchanges);
    assert!(rows[0].is_clamped(), "{rows:#?}");
    let ceiling = exchanges[0].request["max_completion_tokens"].as_u64().expect("a ceiling in the dialect's own field");
    assert!((1024..=5000).contains(&ceiling), "{ceiling} output tokens do not fit $0.05");
}

#[test]
fn an_added_host_is_metered() {
    use meter_tests::{harness::LabOptions, simulator::Config};
    let mut options = LabOptions::default().budget("curl", PLENTY);
    options.simulator = Config { names: vec!["llm.eu.example".to_owned()], ..Config::default() };
    options.daemon.hosts.push(("llm.*.example".to_owned(), "openai".to_owned()));
    let options = options.name("llm.eu.example", std::net::Ipv4Addr::new(10, 88, 1, 2).into());
    let lab = Lab::start(options);
    let printed = shell(&lab).run(&curl("https://llm.eu.example/v1/chat/completions", &Chat::ordinary().body(), ""));
    assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
    let rows = lab.daemon.ledger("curl");
    assert_eq!((rows.len(), rows[0].host.as_str()), (1, "llm.eu.example"), "{rows:#?}");
}
