//! Answers that are cut: as what each client sees it, what it is billed, and how it ends for the provider.

use std::{
    io::{BufRead, BufReader, Read},
    time::Duration,
};

use meter_tests::{
    harness::{
        Lab, LabOptions, Outcome, Row, Shell,
        chat::{Chat, curl},
        cost, node_script, pico, python_script, steps, wait_for,
    },
    simulator::{
        directive::{Directive, Encoding},
        log::End,
    },
};

/// Fits what an ordinary request holds, and nothing like what the answer of [`unruly`] costs.
const LITTLE: &str = "0.006";
/// A cut that takes longer has waited for something.
const AT_ONCE: Duration = Duration::from_secs(3);

/// An answer a hundred times as long as its request allows.
fn unruly() -> Directive {
    let (input, output, chunks) = (Some(300), Some(20_000), Some(2_000));
    Directive { input, output, chunks, past_ceiling: true, delay_ms: 2, ..Directive::default() }
}

fn unruly_chat(options: &str) -> Chat {
    Chat { directive: unruly(), ..Chat::ordinary() }.stream().options(&format!("-N {options}"))
}

/// The one row of an agent, which was cut for its money: billed for what came, and not for more than was held.
fn row_of_a_cut(lab: &Lab, agent: &str) -> Row {
    let rows = wait_for("the row", Duration::from_secs(10), || {
        let rows = lab.daemon.ledger(agent);
        (!rows.is_empty()).then_some(rows)
    });
    let [row] = &rows[..] else { panic!("{rows:#?}") };
    assert_eq!((row.outcome.as_str(), row.status), ("cut", Some(200)), "{row:#?}");
    assert!(0 < row.cost() && row.cost() <= pico(&row.held_usd), "{row:#?}");
    let account = lab.daemon.account(agent);
    assert_eq!((account.spent(), account.held_usd.as_str()), (row.cost(), "0"), "{account:#?}");
    row.clone()
}

/// Every exchange of the provider ended because the other side went.
fn provider_saw_it_end(lab: &Lab, count: usize) {
    let exchanges = wait_for("the provider's side to end", AT_ONCE, || {
        let exchanges = lab.simulator.exchanges();
        (exchanges.len() == count).then_some(exchanges)
    });
    for exchange in exchanges {
        assert_eq!(exchange.end, End::ClientGone, "{exchange:#?}");
    }
}

fn run_sdk(lab: &Lab, script: &[String; 2], api: &str, directive: &Directive) -> Outcome {
    lab.agent(api).run(&[&script[0], &script[1], api, &serde_json::to_string(directive).unwrap()])
}

/// What an SDK raises for a stream that is cut for its money.
fn raised(script: &[String; 2], api: &str, budget: &str) -> serde_json::Value {
    let lab = Lab::with_budget(api, budget);
    let outcome = run_sdk(&lab, script, api, &unruly());
    outcome.expect_code(0);
    let last = steps(&outcome).pop().expect("it says how it ended");
    assert_eq!(last.name, "raised", "{outcome:#?}");
    let events = last.facts["events"].as_u64().unwrap_or(0);
    assert!((50..1_900).contains(&events), "{events} events: {outcome:#?}");
    let message = format!("{}{}", last.facts["message"], last.facts["body"]);
    assert!(message.contains("meter: this answer was cut"), "{message}");
    let row = row_of_a_cut(&lab, api);
    assert!(row.cost() <= pico(budget), "overspent: {row:#?}");
    provider_saw_it_end(&lab, 1);
    assert_eq!(lab.simulator.exchanges().len(), 1, "the SDK tried again");
    last.facts
}

#[test]
fn openai_python_raises_an_api_error_for_a_chat() {
    let facts = raised(&python_script("cut_agent.py"), "chat", LITTLE);
    assert_eq!((facts["class"].as_str(), facts["body"]["code"].as_str()), (Some("APIError"), Some("budget_exceeded")));
}

#[test]
fn openai_python_raises_an_api_error_for_a_response() {
    let facts = raised(&python_script("cut_agent.py"), "responses", LITTLE);
    assert_eq!((facts["class"].as_str(), facts["body"]["code"].as_str()), (Some("APIError"), Some("budget_exceeded")));
}

#[test]
fn anthropic_python_raises_an_api_status_error() {
    let facts = raised(&python_script("cut_agent.py"), "messages", "0.004");
    assert_eq!(facts["class"], "APIStatusError", "{facts}");
    assert_eq!(facts["body"]["error"]["type"], "billing_error", "{facts}");
}

#[test]
fn google_genai_raises_a_client_error() {
    let facts = raised(&python_script("cut_agent.py"), "content", "0.0003");
    assert_eq!((facts["class"].as_str(), facts["status"].as_u64()), (Some("ClientError"), Some(402)), "{facts}");
}

/// boto3 raises what the stream's last frame says: an exception that the service declares for its streams.
fn is_an_event_stream_error(facts: &serde_json::Value) {
    let kinds = facts["kinds"].to_string();
    assert!(kinds.contains("EventStreamError") && kinds.contains("ClientError"), "{facts}");
    assert_eq!(facts["body"]["Code"], "validationException", "{facts}");
}

#[test]
fn boto3_raises_an_event_stream_error_for_converse() {
    is_an_event_stream_error(&raised(&python_script("cut_agent.py"), "converse", "0.004"));
}

#[test]
fn boto3_raises_an_event_stream_error_for_a_model_that_is_invoked() {
    is_an_event_stream_error(&raised(&python_script("cut_agent.py"), "invoke", "0.004"));
    is_an_event_stream_error(&raised(&python_script("cut_agent.py"), "nova", "0.0002"));
}

/// A stream of gRPC that is cut ends by a status, and never as one that came to its end.
fn is_an_rpc_error(raised: &serde_json::Value, end: &serde_json::Value) {
    assert!(raised["kinds"].to_string().contains("RpcError"), "{raised}");
    assert_eq!(end["code"], "RESOURCE_EXHAUSTED", "{end}");
}

#[test]
fn grpc_that_keeps_to_its_ceiling_is_billed_to_the_token() {
    let lab = Lab::with_budget("rpc", "1");
    let [python, script] = python_script("grpc_agent.py");
    let outcome =
        lab.agent("rpc").run(&[&python, &script, "chat", r#"{"input":120,"cached":40,"output":90,"chunks":9}"#]);
    let end = steps(outcome.expect_code(0)).pop().expect("it says how it ended").facts;
    assert_eq!((end["code"].as_str(), end["count"].as_u64()), (Some("OK"), Some(10)), "{end}");
    meter_tests::harness::assert_rows_match(&lab.daemon.ledger("rpc"), &lab.simulator.exchanges());
}

#[test]
fn grpc_raises_an_rpc_error() {
    let lab = Lab::with_budget("rpc", "0.02");
    let [python, script] = python_script("grpc_agent.py");
    let directive = serde_json::to_string(&unruly()).unwrap();
    let outcome = lab.agent("rpc").run(&[&python, &script, "chat", &directive]);
    let seen = steps(outcome.expect_code(0));
    let [_, raised, end] = &seen[..] else { panic!("{outcome:#?}") };
    is_an_rpc_error(&raised.facts, &end.facts);
    let end = &end.facts;
    let details = end["details"].as_str().unwrap_or_default();
    assert!(details.starts_with("meter: this answer was cut"), "{end}");
    assert!(end["count"].as_u64().is_some_and(|count| (20..1_900).contains(&count)), "{end}");
    let row = row_of_a_cut(&lab, "rpc");
    assert!(row.cost() <= pico("0.02"), "overspent: {row:#?}");
    provider_saw_it_end(&lab, 1);
}

#[test]
fn openai_node_throws_an_api_error_for_a_chat() {
    let facts = raised(&node_script("cut_agent.mjs"), "chat", LITTLE);
    assert_eq!((facts["class"].as_str(), facts["body"]["code"].as_str()), (Some("APIError"), Some("budget_exceeded")));
}

#[test]
fn openai_node_throws_an_api_error_for_a_response() {
    let facts = raised(&node_script("cut_agent.mjs"), "responses", LITTLE);
    assert_eq!((facts["class"].as_str(), facts["body"]["code"].as_str()), (Some("APIError"), Some("budget_exceeded")));
}

#[test]
fn anthropic_node_throws_an_api_error() {
    let facts = raised(&node_script("cut_agent.mjs"), "messages", "0.004");
    assert_eq!(facts["class"], "APIError", "{facts}");
    assert_eq!(facts["body"]["error"]["type"], "billing_error", "{facts}");
}

#[test]
fn a_plain_stream_ends_with_an_event_and_a_clean_end() {
    let lab = Lab::start(LabOptions::default().budget("h1", LITTLE).budget("h2", LITTLE));
    for (agent, version) in [("h1", "--http1.1"), ("h2", "--http2")] {
        let outcome = lab.agent(agent).shell(&unruly_chat(version).curl());
        outcome.expect_code(0);
        let last = outcome.stdout.lines().rfind(|line| line.starts_with("data: ")).expect("events");
        let event: serde_json::Value = serde_json::from_str(&last["data: ".len()..]).expect("its last event is whole");
        assert_eq!(event["error"]["code"], "budget_exceeded", "{event}");
        let row = row_of_a_cut(&lab, agent);
        assert_eq!(row.usage_quality, "estimated", "{row:#?}");
        assert!(row.usage.output_tokens > 200, "what was delivered is more than was allowed: {row:#?}");
        assert!(row.cost() <= pico(LITTLE), "{row:#?}");
    }
    provider_saw_it_end(&lab, 2);
}

#[test]
fn a_compressed_stream_breaks_off() {
    let lab = Lab::start(LabOptions::default().budget("h1", LITTLE).budget("h2", LITTLE));
    // A signed request keeps the encodings that it accepts.
    let options = "-H 'accept-encoding: gzip' -H 'content-digest: sha-256=:AA==:' -o /dev/null";
    for (agent, version, code) in [("h1", "--http1.1", 18), ("h2", "--http2", 92)] {
        let mut chat = unruly_chat(&format!("{options} {version}"));
        chat.directive.encoding = Some(Encoding::Gzip);
        let outcome = lab.agent(agent).shell(&chat.curl());
        outcome.expect_code(code);
        row_of_a_cut(&lab, agent);
    }
    let exchanges = lab.simulator.exchanges();
    assert!(exchanges.iter().all(|exchange| exchange.encoding.is_some()), "{exchanges:#?}");
    provider_saw_it_end(&lab, 2);
}

/// Where the end of the connection is the end of the answer, a clean end would be taken for it.
#[test]
fn an_answer_to_http_1_0_that_the_provider_breaks_off_breaks_off_for_the_agent_too() {
    let lab = Lab::with_budget("old", "1");
    let url = "http://api.openai.com/v1/chat/completions";
    let ask = |cut_after| {
        let chat = Chat::ordinary().stream().with(|d| (d.chunks, d.delay_ms, d.cut_after) = (Some(10), 5, cut_after));
        lab.agent("old").shell(&curl(url, &chat.body(), "-N --http1.0"))
    };
    assert!(ask(None).expect_code(0).stdout.contains("[DONE]"));
    let outcome = ask(Some(5));
    // A failure to receive.
    outcome.expect_code(56);
    assert!(outcome.stdout.contains("data: "), "{outcome:#?}");
    let outcomes: Vec<_> = lab.daemon.ledger("old").into_iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, ["complete", "cut"]);
}

#[test]
fn a_stream_past_its_hold_goes_on_while_there_is_money() {
    let lab = Lab::with_budget("rich", "5");
    let mut chat = unruly_chat("");
    chat.directive.chunks = Some(400);
    let outcome = lab.agent("rich").shell(&chat.curl());
    outcome.expect_code(0);
    assert!(outcome.stdout.contains("[DONE]"), "{}", outcome.stdout);
    let row = &lab.daemon.ledger("rich")[0];
    let sent = &lab.simulator.exchanges()[0];
    assert_eq!((row.outcome.as_str(), row.usage_quality.as_str(), sent.end), ("complete", "exact", End::Complete));
    assert_eq!(row.cost(), cost(&sent.model, &sent.billed), "in full, whatever was held");
    assert!(pico(&row.held_usd) > pico("0.05"), "the hold did not grow: {row:#?}");
    assert_eq!(lab.daemon.account("rich").held_usd, "0");
}

#[test]
fn a_model_that_keeps_to_its_ceiling_is_never_cut() {
    let lab = Lab::with_budget("spare", LITTLE);
    // Eight bytes to every token, more than ordinary text has.
    let chat = Chat::ordinary().stream().options("-N").with(|directive| {
        directive.chunks = Some(200);
        directive.size = Some(1_600);
    });
    let outcome = lab.agent("spare").shell(&chat.curl());
    assert!(outcome.stdout.contains("[DONE]"), "{}", outcome.stdout);
    assert_eq!(lab.daemon.ledger("spare")[0].outcome, "complete");
}

/// Starts command lines in the background, each with its output in a file of its own below `$work`, and waits until
/// every one of the `begun` first has printed something.
fn in_background(shell: &mut Shell, lines: &[String], begun: usize) {
    shell.run("work=$(mktemp -d); mkfifo $work/unread").expect_code(0);
    shell.run("exec 7<>$work/unread");
    for (number, line) in lines.iter().enumerate() {
        shell.run(&format!("(exec 7>&-; {line}; echo \"code $?\") > $work/{number} 2>&1 &"));
    }
    for number in 0..begun {
        shell.run(&format!("for i in $(seq 1000); do test -s $work/{number} && break; sleep 0.01; done"));
    }
}

/// What the background commands printed, once all have ended; with how long that took.
fn all_ended(shell: &mut Shell, count: usize) -> (Vec<String>, Duration) {
    shell.run("exec 7>&-");
    let ended = shell.run("wait");
    let printed = (0..count).map(|number| shell.run(&format!("cat $work/{number}")).stdout).collect();
    shell.run("rm -r $work");
    (printed, ended.took)
}

/// Whatever is under way when an account is revoked ends at once, though neither side says anything.
#[test]
fn a_revoked_account_has_nothing_under_way_any_more() {
    let lab = Lab::start(LabOptions::default().budget("gone", "5").budget("other", "5"));
    let mut shell = Shell::open(&lab.agent("gone"));
    let mut other = Shell::open(&lab.agent("other"));
    let hanging = |stream: bool, options: &str| {
        let chat = if stream { Chat::ordinary().stream() } else { Chat::ordinary() };
        chat.options(&format!("-N {options}")).with(|directive| directive.hang = true).curl()
    };
    let waiting = |options: &str| Chat::ordinary().options(options).with(|d| d.ttfb_ms = 60_000).curl();
    let unread = Chat::ordinary().stream().options("-N").with(|d| d.size = Some(24_000_000));
    let lines = [
        hanging(true, "--http1.1"),
        hanging(true, "--http2"),
        hanging(false, "--http1.1"),
        hanging(false, "--http2"),
        // It does not read what comes.
        format!("{} > $work/unread", unread.curl()),
        waiting("--http1.1"),
        waiting("--http2"),
    ];
    // What counts an answer without usage takes its time to load, once.
    other.run(&hanging(true, "--max-time 1"));
    wait_for("its row", Duration::from_secs(20), || (!lab.daemon.ledger("other").is_empty()).then_some(()));
    in_background(&mut shell, &lines, 4);
    shell.run("head -c 100 <&7");
    let goes_on = Chat::ordinary().stream().options("-N").with(|d| {
        (d.chunks, d.delay_ms) = (Some(50), 100);
    });
    in_background(&mut other, &[goes_on.curl()], 1);
    wait_for("all of them to be held", Duration::from_secs(10), || {
        (pico(&lab.daemon.account("gone").held_usd) > lines.len() as i128 * pico("0.005")).then_some(())
    });

    lab.daemon.call("revoke", &["gone", "--reason", "a test"]);
    let rows = wait_for("every row", AT_ONCE, || {
        let rows = lab.daemon.ledger("gone");
        (rows.iter().filter(|row| !row.is_refusal()).count() == lines.len()).then_some(rows)
    });
    assert!(rows.iter().filter(|row| !row.is_refusal()).all(|row| row.outcome == "cut" && row.cost() > 0), "{rows:#?}");
    assert!(rows.iter().all(|row| row.is_refusal() || row.cost() <= pico(&row.held_usd)), "{rows:#?}");
    let waited = rows.iter().filter(|row| row.status == Some(402)).count();
    assert_eq!(waited, 2, "{rows:#?}");
    let account = lab.daemon.account("gone");
    assert_eq!((account.state.as_str(), account.held_usd.as_str()), ("revoked", "0"), "{account:#?}");
    assert_eq!(account.spent(), rows.iter().map(Row::cost).sum::<i128>());
    // It notes only those that it has begun to answer.
    provider_saw_it_end(&lab, 1 + lines.len() - waited);

    let (printed, took) = all_ended(&mut shell, lines.len());
    assert!(took < AT_ONCE, "{took:?}: {printed:#?}");
    // Two streams with the provider's last words and a clean end; two documents that break off.
    for (number, codes) in [(0, &[0][..]), (1, &[0]), (2, &[18, 56]), (3, &[18, 56, 92])] {
        let printed = &printed[number];
        assert_eq!(printed.contains("account_revoked"), codes == [0], "{number}: {printed}");
        assert!(codes.iter().any(|code| printed.ends_with(&format!("code {code}\n"))), "{number}: {printed}");
    }
    for printed in &printed[5..] {
        assert!(printed.contains("account_revoked") && printed.contains("\n402\n"), "{printed}");
    }
    let refused = shell.run("(exec 9<>/dev/tcp/api.openai.com/443)");
    assert!(refused.stdout.contains("refused") && refused.took < Duration::from_secs(1), "{refused:#?}");

    // Nobody else is disturbed.
    let (printed, _) = all_ended(&mut other, 1);
    assert!(printed[0].contains("[DONE]"), "{}", printed[0]);
    assert_eq!(lab.daemon.account("other").state, "open");
}

/// The same for streams that have frames of their own to end in, by what their clients raise.
#[test]
fn a_revoked_account_reads_so_in_the_frames_of_its_streams() {
    let lab = Lab::with_budget("gone", "5");
    let directive = Directive { input: Some(300), hang: true, ..Directive::default() };
    let directive = serde_json::to_string(&directive).expect("plain fields");
    let [python, cut] = python_script("cut_agent.py");
    let [_, grpc] = python_script("grpc_agent.py");
    let agent = lab.agent("gone");
    let mut streams = [(&cut, "converse"), (&cut, "invoke"), (&cut, "nova"), (&grpc, "chat")].map(|(script, api)| {
        let mut running = agent.spawn(&[&python, script, api, &directive]);
        let printed = BufReader::new(running.stdout());
        (running, printed)
    });
    for (_, printed) in &mut streams {
        printed.read_line(&mut String::new()).expect("the first piece of its stream");
    }

    lab.daemon.call("revoke", &["gone", "--reason", "a test"]);
    let count = streams.len();
    for (running, mut printed) in streams {
        let mut said = String::new();
        printed.read_to_string(&mut said).expect("text");
        running.wait().expect_code(0);
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("facts");
        let last = line(said.lines().last().unwrap_or_else(|| panic!("it said nothing any more: {said}")));
        if last["step"] == "end" {
            let raised = line(said.lines().next().expect("two lines"));
            is_an_rpc_error(&raised, &last);
        } else {
            is_an_event_stream_error(&last);
        }
        assert!(last.to_string().contains("account gone is revoked (a test)"), "{last}");
    }
    let rows = wait_for("every row", AT_ONCE, || {
        let rows = lab.daemon.ledger("gone");
        (rows.iter().filter(|row| !row.is_refusal()).count() == count).then_some(rows)
    });
    for row in rows.iter().filter(|row| !row.is_refusal()) {
        assert_eq!((row.outcome.as_str(), row.status), ("cut", Some(200)), "{row:#?}");
        assert!(0 < row.cost() && row.cost() <= pico(&row.held_usd), "{row:#?}");
    }
    let account = lab.daemon.account("gone");
    assert_eq!(account.held_usd, "0");
    assert_eq!(account.spent(), rows.iter().map(Row::cost).sum::<i128>());
    provider_saw_it_end(&lab, count);
}
