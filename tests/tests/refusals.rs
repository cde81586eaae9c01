//! A refusal is final: SDKs stop within their own retry rules, nothing hangs, and what a client says of itself changes
//! nothing.

use std::time::Duration;

use meter_tests::{
    bench::process::cpu_ns,
    client::{
        connects::{Connects, Ended},
        leg::Post,
        load::{Load, Tally},
    },
    harness::{
        Books, Lab, LabOptions, Row, Shell, Step, assert_rows_match,
        chat::{Chat, curl, status},
        node_script, python_script, steps, wait_for, wait_for_state,
    },
    simulator::body::monotonic_ns,
};
use serde_json::Value;

/// Fits not even one token.
const NOTHING: &str = "0.0000001";
/// A limit of exactly this refuses what is priced and leaves the network alone.
const ZERO: &str = "0";
/// A refusal by the sidecar that takes longer has been retried or waited for.
const REFUSED_MS: u64 = 3_000;
/// The rows of refusals are written by then, also where they are gathered for a minute.
const ROWS: Duration = Duration::from_secs(90);
/// SDKs retry a connection that was refused, with pauses of their own; more than this is a hang.
const UNCONNECTED_MS: u64 = 20_000;

/// Calls of the agents: each SDK's way of calling, plain and streamed.
const PYTHON_CALLS: usize = 16;
const NODE_CALLS: usize = 6;

/// Requests that were refused by the sidecar.
fn refused(rows: &[Row]) -> u64 {
    rows.iter().filter(|row| row.outcome == "refused_budget").map(|row| row.count).sum()
}

/// One call after the other by each SDK, with the retries that it makes by itself: how they failed.
fn calls(lab: &Lab, agent: &str, script: &[String; 2]) -> Vec<Step> {
    let outcome = lab.agent(agent).run(&[script[0].as_str(), script[1].as_str()]);
    steps(outcome.expect_code(0))
}

/// Every call of every SDK is refused once by the sidecar, with the 402 in the SDK's own exception.
fn stops_at_its_first_refusal(script: &[String; 2], expected: usize) -> Vec<Step> {
    // A limit of 0 stays open to connections, so that each call comes as far as its request.
    let lab = Lab::with_budget("sdk", ZERO);
    let seen = calls(&lab, "sdk", script);
    assert_eq!(seen.len(), expected, "{seen:#?}");
    for call in &seen {
        assert_eq!(call.facts["status"], 402, "{call:#?}");
        assert!(call.facts["ms"].as_u64().is_some_and(|ms| ms < REFUSED_MS), "{call:#?}");
    }
    // Each came at least once, so that as many as there were calls is once each.
    let count = wait_for("the refusals' rows", ROWS, || {
        let count = refused(&lab.daemon.ledger("sdk"));
        (count >= expected as u64).then_some(count)
    });
    assert_eq!(count, expected as u64, "an SDK asked again");
    assert!(lab.simulator.exchanges().is_empty(), "a refused request has left");
    assert_eq!(Books::check(&lab.daemon, &[]).spent("host"), 0);
    seen
}

/// Every SDK gives up on its own when the kernel refuses its connections.
fn gives_up_at_the_kernels_refusal(script: &[String; 2], expected: usize) {
    let lab = stopped();
    let connections = lab.simulator.connections().len();
    let seen = calls(&lab, "wall", script);
    assert_eq!(seen.len(), expected, "{seen:#?}");
    for call in &seen {
        // Some runtimes put the system's error into words of their own.
        let class = call.facts["class"].as_str().unwrap_or_default();
        let errno = call.facts["errno"].to_string();
        assert!(errno.contains("ECONNREFUSED") || class.contains("Connection"), "{call:#?}");
        assert_eq!(call.facts["status"], Value::Null, "{call:#?}");
        assert!(call.facts["ms"].as_u64().is_some_and(|ms| ms < UNCONNECTED_MS), "{call:#?}");
        println!("{} gave up after {} ms", call.name, call.facts["ms"]);
    }
    assert_eq!(lab.simulator.connections().len(), connections);
}

/// An agent that was refused for an account with nothing left, and stopped.
fn stopped() -> Lab {
    let lab = Lab::with_budget("wall", NOTHING);
    assert_eq!(status(&lab.agent("wall").shell(&Chat::ordinary().curl()).stdout), 402);
    wait_for_state(&lab.daemon, "wall", "stopped");
    lab
}

#[test]
fn python_sdks_stop_at_their_first_refusal() {
    let seen = stops_at_its_first_refusal(&python_script("stubborn_agent.py"), PYTHON_CALLS);
    let boto3 = seen.iter().filter(|call| call.name.starts_with("bedrock"));
    assert_eq!(boto3.clone().count(), 4, "{seen:#?}");
    for Step { facts, .. } in boto3 {
        assert_eq!(facts["class"], "ServiceQuotaExceededException", "{facts}");
        assert!(facts["kinds"].to_string().contains("ClientError"), "{facts}");
        assert!(facts["message"].as_str().is_some_and(|text| text.contains("meter: this request")), "{facts}");
    }
}

#[test]
fn node_sdks_stop_at_their_first_refusal() {
    stops_at_its_first_refusal(&node_script("stubborn_agent.mjs"), NODE_CALLS);
}

#[test]
fn python_sdks_give_up_when_the_kernel_refuses() {
    gives_up_at_the_kernels_refusal(&python_script("stubborn_agent.py"), PYTHON_CALLS);
}

#[test]
fn node_sdks_give_up_when_the_kernel_refuses() {
    gives_up_at_the_kernels_refusal(&node_script("stubborn_agent.mjs"), NODE_CALLS);
}

/// What part of one core the daemon used while `work` ran, in percent.
fn share_of_a_core<T>(lab: &Lab, work: impl FnOnce() -> T) -> (T, f64) {
    let (before, started) = (cpu_ns(lab.daemon.pid()), monotonic_ns());
    let done = work();
    let used = Duration::from_nanos(cpu_ns(lab.daemon.pid()) - before);
    (done, 100.0 * used.as_secs_f64() / Duration::from_nanos(monotonic_ns() - started).as_secs_f64())
}

#[test]
fn a_storm_of_connects_of_a_stopped_account_costs_a_tenth_of_a_core_and_nothing_upstream() {
    const PER_SECOND: u64 = 10_000;
    const SECONDS: u64 = 5;
    let lab = stopped();
    let (refused, connections) = (lab.daemon.account("wall").kernel.refused, lab.simulator.connections().len());
    let plan = Connects { to: "api.openai.com:443".to_owned(), per_second: PER_SECOND, seconds: SECONDS };
    let (ended, percent): (Ended, f64) = share_of_a_core(&lab, || lab.agent("wall").connects(plan).wait());
    println!("{percent:.1} % of a core for {ended:?}");
    assert_eq!(ended.outcomes.keys().map(String::as_str).collect::<Vec<_>>(), ["ConnectionRefused"], "{ended:?}");
    let rate = PER_SECOND * SECONDS * 1_000 / ended.elapsed_ms;
    assert!(rate > PER_SECOND * 8 / 10, "the storm came to {rate} connects a second only");
    assert!(percent < 10.0, "{percent:.1} % of a core");
    assert_eq!(lab.simulator.connections().len(), connections);
    // Each of them is counted, and few rows tell of them.
    assert_eq!(lab.daemon.account("wall").kernel.refused, refused + PER_SECOND * SECONDS);
    let rows = lab.daemon.ledger("wall");
    assert!(rows.len() < 100, "{} rows", rows.len());
}

#[test]
fn a_storm_of_refused_requests_costs_nothing_upstream_and_few_rows() {
    const SECONDS: u64 = 5;
    let lab = Lab::start(LabOptions::default().budget("storm", ZERO).budget("other", "1"));
    let load = Load {
        http2: false,
        connections: 8,
        requests: 0,
        posts: vec![Post::chat(Chat::ordinary().body())],
        seconds: Some(SECONDS),
    };
    let (tally, percent): (Tally, f64) = share_of_a_core(&lab, || {
        let storm = lab.agent("storm").load(load);
        // Another agent is served meanwhile.
        let mut other = Shell::open(&lab.agent("other"));
        assert_eq!(status(&other.run(&Chat::ordinary().curl()).stdout), 200);
        storm.wait()
    });
    let count = tally.of(402);
    println!("{count} refused in {} ms with {percent:.1} % of a core", tally.elapsed_ms);
    assert!(tally.failures.is_empty() && count == tally.sent() && count > 1_000, "{tally:#?}");
    let count = u64::try_from(count).unwrap();
    let rows = wait_for("the rows of all refusals", ROWS, || {
        let rows = lab.daemon.ledger("storm");
        (refused(&rows) >= count).then_some(rows)
    });
    assert_eq!(refused(&rows), count);
    let books = Books::check(&lab.daemon, &[]);
    assert_eq!((books.spent("storm"), lab.simulator.exchanges().len()), (0, 1));
    assert_eq!(lab.daemon.account("storm").state, "open");
    // A row a minute and its first, of the storm; it may begin in one minute and end in the next.
    assert!(rows.len() <= 4, "{} rows", rows.len());
}

/// What a client can say of itself, of others, of the way, and of what it used.
const FORGED: [(&str, &str); 22] = [
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-host", "localhost"),
    ("x-real-ip", "10.88.1.1"),
    ("forwarded", "for=127.0.0.1;host=localhost"),
    ("via", "1.1 meter"),
    ("x-meter-account", "other"),
    ("x-meter-task", "other/task"),
    ("x-meter-budget", "1000000"),
    ("x-meter-bypass", "1"),
    ("meter-account", "other"),
    ("x-should-retry", "true"),
    ("x-request-id", "req_forged"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("tracestate", "meter=free"),
    ("baggage", "account=other"),
    ("openai-organization", "other"),
    ("openai-processing-ms", "0"),
    ("x-openrouter-cost", "0"),
    ("x-litellm-response-cost", "0"),
    ("proxy-authorization", "Basic b3RoZXI6"),
    ("x-http-method-override", "PATCH"),
    ("user-agent", "meter/0.1"),
];

#[test]
fn headers_that_a_client_can_forge_change_nothing() {
    let lab = Lab::start(LabOptions::default().budget("forger", "1").budget("other", "1"));
    // Usage that the request claims for itself is the provider's to ignore, and the meter's.
    let claims = |body: String| {
        body.replacen('{', r#"{"usage":{"prompt_tokens":0,"completion_tokens":0,"cost":0},"user":"other","#, 1)
    };
    for http2 in [false, true] {
        let posts = [Chat::ordinary(), Chat::ordinary().stream()]
            .map(|chat| {
                [("x-plain", "")]
                    .iter()
                    .chain(&FORGED)
                    .map(move |(name, value)| {
                        let mut post = Post::chat(claims(chat.body()));
                        post.headers.push(((*name).to_owned(), (*value).to_owned()));
                        post
                    })
                    .collect::<Vec<_>>()
            })
            .concat();
        let load = Load { http2, connections: 1, requests: posts.len(), posts, seconds: None };
        let tally = lab.agent("forger").load(load).wait();
        assert_eq!(tally.of(200), 2 * (FORGED.len() + 1), "{tally:#?}");
    }
    let books = Books::check(&lab.daemon, &[]);
    assert_rows_match(&books.rows, &lab.simulator.exchanges());
    assert!(books.rows.iter().all(|row| row.cost_usd == "0.00275"), "{:#?}", books.rows[0]);
    assert_eq!((books.rows_of("forger").len(), books.rows_of("other").len()), (4 * (FORGED.len() + 1), 0));
}

#[test]
fn what_a_request_says_of_its_connection_is_not_what_it_is_judged_by() {
    let lab = Lab::with_budget("forger", "1");
    // The provider would get the body, and not the word by which the meter could read it.
    let body = Chat::ordinary().body();
    let printed = lab.agent("forger").shell(&format!(
        "echo '{body}' | gzip | curl -sS --http1.1 -w '\\n%{{http_code}}\\n' -H 'content-type: application/json' \
         -H 'content-encoding: gzip' -H 'connection: keep-alive, content-encoding' --data-binary @- \
         https://api.openai.com/v1/chat/completions"
    ));
    assert_eq!(status(&printed.stdout), 400, "{printed:#?}");
    assert!(printed.stdout.contains("meter: "), "{printed:#?}");
    assert_eq!((Books::check(&lab.daemon, &[]).spent("forger"), lab.simulator.exchanges().len()), (0, 0));
}

#[test]
fn a_host_that_is_not_the_connections_is_refused_and_free() {
    let lab = Lab::with_budget("forger", "1");
    let mut shell = Shell::open(&lab.agent("forger"));
    let url = "https://api.openai.com/v1/chat/completions";
    for version in ["--http1.1", "--http2"] {
        for host in ["api.anthropic.com", "localhost", "127.0.0.1", "api.openai.com.example", "xapi.openai.com"] {
            let printed = shell.run(&curl(url, &Chat::ordinary().body(), &format!("{version} -H 'host: {host}'")));
            assert_eq!(status(&printed.stdout), 421, "{version} {host}: {}", printed.stdout);
        }
        // The same host, however it is written.
        for host in ["API.openai.com", "api.openai.com:443"] {
            let printed = shell.run(&curl(url, &Chat::ordinary().body(), &format!("{version} -H 'host: {host}'")));
            assert_eq!(status(&printed.stdout), 200, "{version} {host}: {}", printed.stdout);
        }
    }
    let books = Books::check(&lab.daemon, &[]);
    let refused = books.rows.iter().filter(|row| row.outcome == "refused_request").map(|row| row.count).sum::<u64>();
    assert_eq!((refused, books.spent("forger")), (10, 4 * 2_750_000_000), "{:#?}", books.rows);
    assert_eq!(lab.simulator.exchanges().len(), 4);
}

#[test]
fn a_proxy_that_the_environment_names_is_no_way_out() {
    let lab = Lab::with_budget("forger", "1");
    let mut shell = Shell::open(&lab.agent("forger"));
    let plain = shell.run(&format!("https_proxy= HTTPS_PROXY= {}", Chat::ordinary().curl()));
    assert_eq!(status(&plain.stdout), 200);
    // A CONNECT to the provider's own address passes as what it is: a request to that host that nobody understands.
    let printed = shell.run(&format!("https_proxy=http://api.openai.com:80 {}", Chat::ordinary().curl()));
    assert_ne!(status(&printed.stdout), 200, "{}", printed.stdout);
    assert_eq!(Books::check(&lab.daemon, &[]).spent("forger"), 2_750_000_000);
    assert_eq!(lab.simulator.exchanges().len(), 1);
}
