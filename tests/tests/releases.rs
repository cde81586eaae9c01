//! However an exchange ends, its hold ends with it, and what it is charged follows from what is known of it.

use std::time::Duration;

use meter_agent::config::Config;
use meter_tests::{
    client::soak::{UNREACHABLE, UNTRUSTED},
    harness::{
        Books, Lab, LabOptions, Row, Shell,
        chat::{Chat, curl},
        cost, must_run, pico, wait_for,
    },
    simulator::{
        log::{End, Exchange},
        turn::Billed,
    },
};

/// Each end comes over both.
const VERSIONS: [&str; 2] = ["--http1.1", "--http2"];
const IMPATIENT: &str = "--max-time 0.4";

fn lab() -> Lab {
    let net = |last| std::net::Ipv4Addr::new(10, 88, 1, last).into();
    let mut options = LabOptions::default().budget("ends", "1").name(UNREACHABLE, net(3)).name(UNTRUSTED, net(2));
    options.daemon.hosts = [UNREACHABLE, UNTRUSTED].map(|host| (host.to_owned(), "openai".to_owned())).to_vec();
    Lab::start(options)
}

/// Asks for it over each version, an ordinary chat after it, and returns the rows that are not the ordinary one's, with
/// what the provider says of them. Nothing is held then, and all books agree.
#[track_caller]
fn ends(ask: impl Fn(&str) -> String) -> Vec<(Row, Option<Exchange>)> {
    let lab = lab();
    let mut shell = Shell::open(&lab.agent("ends"));
    for version in VERSIONS {
        shell.run(&ask(version));
    }
    let books = Books::check(&lab.daemon, &[]);
    let exchanges = lab.simulator.exchanges();
    let of = |row: &Row| exchanges.iter().find(|e| row.request_id.as_ref() == Some(&e.request_id)).cloned();
    let ended: Vec<_> =
        books.rows.into_iter().map(|row| (of(&row), row)).map(|(exchange, row)| (row, exchange)).collect();
    assert_eq!(ended.len(), VERSIONS.len(), "{ended:#?}");
    for (row, _) in &ended {
        assert!(row.cost() <= pico(&row.held_usd), "{row:#?}");
    }
    // The account is as good as before.
    shell.run(&Chat::ordinary().curl()).expect_code(0);
    let rows = Books::check(&lab.daemon, &[]).rows;
    assert_eq!(rows.last().map(Row::cost), Some(2_750_000_000), "{rows:#?}");
    ended
}

fn ends_of(chat: &Chat, options: &str) -> Vec<(Row, Option<Exchange>)> {
    ends(|version| chat.clone().options(&format!("{version} {options}")).curl())
}

/// It cost nothing, and the row has this outcome and status.
#[track_caller]
fn assert_free(ended: &[(Row, Option<Exchange>)], outcome: &str, status: u16) {
    for (row, _) in ended {
        assert_eq!((row.outcome.as_str(), row.status, row.cost()), (outcome, Some(status), 0), "{row:#?}");
    }
}

/// It left the host and nobody can say what it cost: the hold is the charge.
#[track_caller]
fn assert_consumed(ended: &[(Row, Option<Exchange>)], outcome: &str) {
    for (row, _) in ended {
        assert_eq!((row.outcome.as_str(), row.usage_quality.as_str()), (outcome, "absent"), "{row:#?}");
        assert!(row.cost() > 0 && row.cost_usd == row.held_usd, "{row:#?}");
    }
}

/// It was cut in the middle: charged for its input and for what was delivered at least; for all of it where it came as
/// one document.
#[track_caller]
fn assert_estimated(ended: &[(Row, Option<Exchange>)], outcome: &str) {
    for (row, exchange) in ended {
        assert_eq!((row.outcome.as_str(), row.usage_quality.as_str()), (outcome, "estimated"), "{row:#?}");
        let exchange = exchange.as_ref().expect("the provider's log names it");
        let output_tokens = if row.stream { 0 } else { exchange.billed.output_tokens };
        let least = cost(&exchange.model, &Billed { output_tokens, ..exchange.billed });
        assert!(row.cost() >= least, "{row:#?} {exchange:#?}");
    }
}

fn stream() -> Chat {
    Chat::ordinary().stream().with(|directive| directive.chunks = Some(10))
}

#[test]
fn a_client_error_of_the_provider_releases_the_hold() {
    assert_free(&ends_of(&Chat::ordinary().with(|d| d.status = Some(400)), ""), "upstream_error", 400);
}

#[test]
fn a_rate_limit_of_the_provider_releases_the_hold() {
    assert_free(&ends_of(&stream().with(|d| d.status = Some(429)), ""), "upstream_error", 429);
}

#[test]
fn a_server_error_of_the_provider_releases_the_hold() {
    assert_free(&ends_of(&Chat::ordinary().with(|d| d.status = Some(503)), ""), "upstream_error", 503);
}

#[test]
fn a_provider_that_closes_before_its_answer_consumes_the_hold() {
    assert_consumed(&ends_of(&Chat::ordinary().with(|d| d.cut_head = true), ""), "upstream_unreachable");
}

#[test]
fn a_provider_that_resets_before_its_answer_consumes_the_hold() {
    let chat = Chat::ordinary().with(|d| (d.cut_head, d.reset) = (true, true));
    assert_consumed(&ends_of(&chat, ""), "upstream_unreachable");
}

#[test]
fn a_provider_that_closes_after_its_head_is_charged_for_what_it_can_have_made() {
    let chat = Chat::ordinary().with(|d| (d.cut_after, d.delay_ms) = (Some(0), 20));
    assert_estimated(&ends_of(&chat, ""), "cut");
}

#[test]
fn a_provider_that_resets_after_its_head_is_charged_for_what_it_can_have_made() {
    let chat = Chat::ordinary().with(|d| (d.cut_after, d.reset, d.delay_ms) = (Some(0), true, 20));
    assert_estimated(&ends_of(&chat, ""), "cut");
}

#[test]
fn a_stream_that_the_provider_cuts_is_charged_for_what_came() {
    assert_estimated(&ends_of(&stream().with(|d| (d.cut_after, d.delay_ms) = (Some(5), 5)), ""), "cut");
}

#[test]
fn a_stream_that_the_provider_resets_is_charged_for_what_came() {
    let chat = stream().with(|d| (d.cut_after, d.reset, d.delay_ms) = (Some(5), true, 5));
    assert_estimated(&ends_of(&chat, ""), "cut");
}

#[test]
fn an_agent_that_leaves_before_the_answer_consumes_the_hold() {
    assert_consumed(&ends_of(&Chat::ordinary().with(|d| d.ttfb_ms = 5_000), IMPATIENT), "client_gone");
}

#[test]
fn an_agent_that_leaves_a_stream_is_charged_for_what_came() {
    let ended = ends_of(&stream().with(|d| d.delay_ms = 200), IMPATIENT);
    assert_estimated(&ended, "client_gone");
    assert!(
        ended.iter().all(|(_, exchange)| exchange.as_ref().is_some_and(|e| e.end == End::ClientGone)),
        "{ended:#?}"
    );
}

#[test]
fn a_provider_that_hangs_in_its_answer_is_given_up_by_the_agents_own_timeout() {
    assert_estimated(&ends_of(&stream().with(|d| d.hang = true), IMPATIENT), "client_gone");
    assert_estimated(&ends_of(&Chat::ordinary().with(|d| d.hang = true), IMPATIENT), "client_gone");
}

#[test]
fn both_sides_of_a_connection_are_asked_whether_they_are_there() {
    let lab = lab();
    let mut shell = Shell::open(&lab.agent("ends"));
    under_way(&mut shell, &stream().with(|d| d.hang = true));
    // Own address, the peer's, and what the kernel waits for.
    let open = must_run("ss -Htno state established");
    let is_asked = |own: &str, peer: &str| {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        open.lines().map(words).any(|line| {
            let [_, _, from, to, timer] = &line[..] else { return false };
            from.starts_with(own) && to.starts_with(peer) && timer.starts_with("timer:(keepalive")
        })
    };
    assert!(is_asked("", &format!("{}:443", lab.net.v4)) || is_asked("", &format!("[{}]:443", lab.net.v6)), "{open}");
    let ports = Config::default().listen_ports;
    let by = |host: &str| ports.iter().any(|port| is_asked(&format!("{host}:{port}"), &format!("{host}:")));
    assert!(by("127.0.0.1") || by("[::1]"), "{open}");
    shell.run("kill $(jobs -p); rm -r $work");
}

/// Longer than a silent peer is asked whether it is there.
const VANISHED_MAX: Duration = Duration::from_secs(130);

#[test]
fn a_provider_that_vanishes_without_a_word_ends_its_exchanges() {
    let lab = lab();
    let mut shell = Shell::open(&lab.agent("ends"));
    shell.run("work=$(mktemp -d)").expect_code(0);
    let ask = |shell: &mut Shell, name: &str, chat: Chat| {
        let before = pico(&lab.daemon.account("ends").held_usd);
        let command = chat.options("-N --max-time 300 --http1.1").curl();
        shell.run(&format!("({command}) > $work/{name} 2>&1 &"));
        wait_for("its hold", Duration::from_secs(10), || {
            (pico(&lab.daemon.account("ends").held_usd) > before).then_some(())
        });
    };
    ask(&mut shell, "streams", stream().with(|d| d.hang = true));
    shell.run("while ! grep -q data: $work/streams; do sleep 0.01; done").expect_code(0);
    ask(&mut shell, "waits", Chat::ordinary().with(|d| d.ttfb_ms = 600_000));
    // It leaves a connection behind, on which the last one asks.
    shell.run(&Chat::ordinary().options("--http1.1").curl()).expect_code(0);
    lab.net.vanish();
    ask(&mut shell, "asks", Chat::ordinary());
    let ended = wait_for("the exchanges to end", VANISHED_MAX, || {
        let rows = lab.daemon.ledger("ends");
        (rows.len() == 4).then_some(rows)
    });
    let of = |stream| ended.iter().filter(|row| row.stream == stream && row.outcome != "complete").collect::<Vec<_>>();
    assert_eq!((of(true).len(), of(false).len()), (1, 2), "{ended:#?}");
    assert!(of(true).iter().all(|row| row.outcome == "cut" && row.cost() > 0), "{ended:#?}");
    assert!(of(false).iter().all(|row| row.outcome == "upstream_unreachable"), "{ended:#?}");
    // Nobody can say what those cost that had left.
    assert!(of(false).iter().all(|row| row.cost_usd == row.held_usd), "{ended:#?}");
    let told = shell.run("wait; tail -n 1 $work/waits $work/asks; cat $work/streams; rm -r $work").stdout;
    assert_eq!(told.matches("502").count(), 2, "{told}");
    assert!(!told.contains("[DONE]"), "{told}");
    Books::check(&lab.daemon, &[]);
}

#[test]
fn a_provider_that_is_not_reached_costs_nothing() {
    let to = |host: &'static str| {
        move |version: &str| curl(&format!("https://{host}/v1/chat/completions"), &Chat::ordinary().body(), version)
    };
    assert_free(&ends(to(UNREACHABLE)), "upstream_unreachable", 502);
}

#[test]
fn a_provider_whose_certificate_is_not_its_own_costs_nothing() {
    let url = format!("https://{UNTRUSTED}/v1/chat/completions");
    let ended = ends(|version| curl(&url, &Chat::ordinary().body(), version));
    assert_free(&ended, "upstream_unreachable", 502);
    assert!(ended.iter().all(|(row, exchange)| exchange.is_none() && row.reason.is_some()), "{ended:#?}");
}

#[test]
fn an_agent_that_leaves_in_its_own_request_costs_nothing() {
    let ended = ends(|version| {
        // A body that is announced and does not come; curl waits for it until it is told to end.
        format!(
            "{{ echo '{{'; sleep 0.6; }} | curl -sS {version} --max-time 0.3 -T - -X POST \
             -H 'content-type: application/json' https://api.openai.com/v1/chat/completions"
        )
    });
    for (row, exchange) in ended {
        assert_eq!((row.cost(), pico(&row.held_usd)), (0, 0), "{row:#?}");
        assert!(["client_gone", "refused_request"].contains(&row.outcome.as_str()), "{row:#?}");
        assert!(exchange.is_none());
    }
}

/// Starts a stream, and returns when its first event is there.
fn under_way(shell: &mut Shell, chat: &Chat) {
    shell.run("work=$(mktemp -d)").expect_code(0);
    let command = chat.clone().options("-N").curl();
    shell.run(&format!("({command}) > $work/out 2>&1 & while ! grep -q data: $work/out; do sleep 0.01; done"));
}

#[test]
fn a_drain_lets_a_stream_end_and_settles_it() {
    let mut lab = lab();
    let mut shell = Shell::open(&lab.agent("ends"));
    under_way(&mut shell, &stream().with(|d| d.delay_ms = 100));
    assert!(lab.daemon.stop().success());
    assert!(shell.run("wait; cat $work/out; rm -r $work").stdout.contains("[DONE]"));
    lab.daemon.launch();
    let rows = Books::check(&lab.daemon, &[]).rows;
    assert_eq!((rows.len(), rows[0].outcome.as_str(), rows[0].cost()), (1, "complete", 2_750_000_000), "{rows:#?}");
}

#[test]
fn a_drain_ends_what_does_not_end_by_itself_and_settles_it() {
    let mut lab = lab();
    let mut shell = Shell::open(&lab.agent("ends"));
    under_way(&mut shell, &stream().with(|d| d.hang = true));
    assert!(lab.daemon.stop().success());
    assert!(!shell.run("wait; cat $work/out; rm -r $work").stdout.contains("[DONE]"));
    lab.daemon.launch();
    let rows = Books::check(&lab.daemon, &[]).rows;
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_ne!(rows[0].outcome, "unresolved", "{rows:#?}");
    assert!(rows[0].cost() > 0 && rows[0].cost() <= pico(&rows[0].held_usd), "{rows:#?}");
}

#[test]
fn an_agent_that_is_killed_leaves_no_hold() {
    let lab = lab();
    let mut agent = lab.agent("ends").spawn(&["bash", "-c", &stream().options("-N").with(|d| d.delay_ms = 500).curl()]);
    wait_for("the hold", Duration::from_secs(10), || (pico(&lab.daemon.account("ends").held_usd) > 0).then_some(()));
    wait_for("the answer", Duration::from_secs(10), || {
        use std::io::Read;
        (agent.stdout().read(&mut [0; 16]).ok()? > 0).then_some(())
    });
    drop(agent);
    // `meter run` was killed; what it had started is not its own to end.
    for account in lab.daemon.status().accounts {
        for cgroup in account.cgroups.iter().filter(|_| account.account.contains('/')) {
            let _ = std::fs::write(cgroup.join("cgroup.kill"), "1");
        }
    }
    let rows = Books::check(&lab.daemon, &[]).rows;
    assert_eq!((rows.len(), rows[0].outcome.as_str()), (1, "client_gone"), "{rows:#?}");
}
