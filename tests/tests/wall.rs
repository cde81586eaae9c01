//! When the money is gone: who refuses, how fast, what still arrives, and how it goes on.

use std::time::Duration;

use meter_tests::{
    harness::{
        Lab, LabOptions, Shell, assert_rows_match,
        chat::{Chat, curl, status},
        pico, wait_for, wait_for_state,
    },
    simulator::Config,
};

/// A new connection by name, with nothing but the shell.
const CONNECT: &str = "exec 9<>/dev/tcp/api.openai.com/443";
/// A refusal that takes longer has waited for something.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Fits a few ordinary chats.
const LITTLE: &str = "0.02";

/// Chats until a refusal, which must come, and returns how many were answered.
fn spend(shell: &mut Shell) -> usize {
    for number in 0..100 {
        let printed = shell.run(&Chat::ordinary().curl());
        match status(&printed.stdout) {
            200 => {}
            402 => return number,
            other => panic!("status {other}: {}", printed.stdout),
        }
    }
    panic!("no wall");
}

#[test]
fn the_next_connect_by_name_is_refused_by_the_kernel() {
    let options = LabOptions { resolver: true, ..LabOptions::default() }.budget("wall", LITTLE);
    let mut lab = Lab::start(options);
    let mut shell = Shell::open(&lab.agent("wall"));
    assert!(spend(&mut shell) > 0);
    wait_for_state(&lab.daemon, "wall", "stopped");
    let connections = lab.simulator.connections().len();
    let questions = lab.simulator.questions().len();
    let refused = lab.daemon.account("wall").kernel.refused;

    let printed = shell.run(&format!("({CONNECT})"));
    assert!(printed.stdout.contains("Connection refused"), "{}", printed.stdout);
    assert!(printed.took < AT_ONCE, "{:?}", printed.took);
    assert!(lab.simulator.questions().len() > questions, "the name was not looked up: a stopped agent keeps its DNS");
    shell.run(&Chat::ordinary().curl()).expect_code(7);
    assert!(lab.daemon.account("wall").kernel.refused >= refused + 2);

    // With the sidecar stopped it can only be the kernel.
    assert!(lab.daemon.stop().success());
    let printed = shell.run(&format!("({CONNECT})"));
    assert!(printed.stdout.contains("Connection refused"), "{}", printed.stdout);
    assert!(printed.took < AT_ONCE, "{:?}", printed.took);
    assert_eq!(lab.simulator.connections().len(), connections, "something passed");
}

#[test]
fn the_refusal_is_in_the_providers_own_shape() {
    type Fits = fn(&serde_json::Value) -> bool;

    let message = r#"{"model":"claude-haiku-4-5","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}"#;
    let contents = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}],"generationConfig":{"maxOutputTokens":9}}"#;
    let gemini = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.0-flash:generateContent";
    let chat = Chat::ordinary().body();
    let shapes: [(&str, &str, &str, Fits); 3] = [
        ("chat", "https://api.openai.com/v1/chat/completions", &chat, |body| body["error"]["message"].is_string()),
        ("message", "https://api.anthropic.com/v1/messages", message, |body| {
            body["type"] == "error" && body["error"]["message"].is_string()
        }),
        ("content", gemini, contents, |body| body["error"]["code"] == 402 && body["error"]["status"].is_string()),
    ];
    let options = shapes.iter().fold(LabOptions::default(), |options, (agent, ..)| options.budget(agent, "0.000001"));
    let lab = Lab::start(options);
    for (agent, url, body, fits) in shapes {
        let printed = lab.agent(agent).shell(&format!("{} 2>&1", curl(url, body, "-D /dev/stderr")));
        assert_eq!(status(&printed.stdout), 402, "{printed:#?}");
        assert!(printed.stdout.to_ascii_lowercase().contains("x-should-retry: false"), "{}", printed.stdout);
        let json = printed.stdout.lines().find(|line| line.starts_with('{')).expect("a body");
        let parsed: serde_json::Value = serde_json::from_str(json).unwrap();
        assert!(fits(&parsed), "{parsed}");
        for fact in [agent, "limit", "category", "spent", "held", "needed"] {
            assert!(json.contains(fact), "`{fact}` is missing: {json}");
        }
    }
    assert!(lab.simulator.exchanges().is_empty());
}

#[test]
fn a_stream_already_admitted_arrives_whole() {
    let lab = Lab::with_budget("wall", "0.1");
    let mut shell = Shell::open(&lab.agent("wall"));
    let stream = Chat::ordinary().stream().options("-N").with(|directive| {
        directive.chunks = Some(20);
        directive.delay_ms = 100;
    });
    shell.run("work=$(mktemp -d)").expect_code(0);
    shell.run(&format!("({}) > $work/stream & while ! grep -q data: $work/stream; do sleep 0.01; done", stream.curl()));

    // Bills far more than it can have been held for, so the account is overdrawn while the stream runs.
    assert_eq!(status(&shell.run(&Chat::overrun(1_000_000).curl()).stdout), 200);
    let account = lab.daemon.account("wall");
    assert!(pico(account.remaining_usd.as_deref().unwrap()) < 0, "{account:#?}");
    let printed = shell.run(&format!("({CONNECT})"));
    assert!(printed.stdout.contains("Connection refused"), "{}", printed.stdout);
    assert!(printed.took < AT_ONCE);
    assert_eq!(lab.daemon.account("wall").state, "draining");

    let printed = shell.run("wait; cat $work/stream; rm -r $work");
    assert!(printed.stdout.contains("data: [DONE]"), "{}", printed.stdout);
    wait_for_state(&lab.daemon, "wall", "stopped");
    let mut exchanges = lab.simulator.exchanges();
    assert_eq!(exchanges.len(), 2);
    exchanges.retain(|exchange| exchange.stream);
    let rows: Vec<_> = lab.daemon.ledger("wall").into_iter().filter(|row| row.stream).collect();
    assert_rows_match(&rows, &exchanges);
}

#[test]
fn an_established_tunnel_is_reset() {
    let options = LabOptions {
        simulator: Config { echo_names: vec!["echo.example".to_owned()], ..Config::default() },
        ..LabOptions::default()
    };
    let lab =
        Lab::start(options.budget("wall", LITTLE).name("echo.example", std::net::Ipv4Addr::new(10, 88, 1, 2).into()));
    let mut shell = Shell::open(&lab.agent("wall"));
    // The tunnel is not ours to read: the certificate is the server's own.
    let ca = lab.simulator.ca_file();
    shell.run("work=$(mktemp -d); mkfifo $work/in").expect_code(0);
    shell.run(&format!(
        "openssl s_client -quiet -verify_return_error -CAfile {} -connect echo.example:443 -servername echo.example \
         < $work/in > $work/out 2> $work/errors & tunnel=$!; exec 8> $work/in; echo hello >&8; \
         for i in $(seq 500); do grep -q hello $work/out && break; sleep 0.01; done; cat $work/errors; grep hello $work/out",
        ca.display()
    ))
    .expect_code(0);
    spend(&mut shell);
    wait_for_state(&lab.daemon, "wall", "stopped");
    let ended = shell.run("timeout 5 tail --pid=$tunnel -f /dev/null");
    ended.expect_code(0);
    assert!(ended.took < Duration::from_secs(3), "{:?}", ended.took);
    shell.run("exec 8>&-; rm -r $work");
}

#[test]
fn another_agent_is_not_disturbed() {
    let lab = Lab::start(LabOptions::default().budget("wall", LITTLE).budget("other", "1"));
    let mut other = Shell::open(&lab.agent("other"));
    let mut shell = Shell::open(&lab.agent("wall"));
    assert_eq!(status(&other.run(&Chat::ordinary().curl()).stdout), 200);
    spend(&mut shell);
    wait_for_state(&lab.daemon, "wall", "stopped");
    shell.run(&format!("({CONNECT})")).expect_code(1);
    assert_eq!(status(&other.run(&Chat::ordinary().curl()).stdout), 200);
    assert_eq!(lab.daemon.account("other").kernel.refused, 0);
    assert_eq!(lab.daemon.account("other").state, "open");
}

#[test]
fn funding_resumes_without_restarting_anything() {
    let lab = Lab::with_budget("wall", LITTLE);
    let mut shell = Shell::open(&lab.agent("wall"));
    let first = spend(&mut shell);
    wait_for_state(&lab.daemon, "wall", "stopped");
    shell.run(&Chat::ordinary().curl()).expect_code(7);

    lab.daemon.call("fund", &["wall", LITTLE]);
    assert_eq!(lab.daemon.account("wall").state, "open");
    let second = spend(&mut shell);
    assert!(second >= first, "{first} calls before and {second} after the same amount");
    assert_rows_match(&lab.daemon.ledger("wall"), &lab.simulator.exchanges());
}

#[test]
fn a_task_has_a_budget_of_its_own() {
    let lab = Lab::with_budget("wall", "1");
    let mut small = Shell::open(&lab.agent("wall").task("small").budget(LITTLE));
    let mut large = Shell::open(&lab.agent("wall").task("large"));
    spend(&mut small);
    wait_for_state(&lab.daemon, "wall/small", "stopped");
    assert_eq!(status(&large.run(&Chat::ordinary().curl()).stdout), 200);
    assert_eq!(lab.daemon.account("wall").state, "open");
}

#[test]
fn an_idle_connection_is_ended_at_the_wall() {
    let lab = Lab::with_budget("wall", LITTLE);
    let mut shell = Shell::open(&lab.agent("wall"));
    // A connection that was used and then kept, as a pool keeps it.
    let body = Chat::ordinary().body();
    shell.run(&format!(
        "cat > /tmp/meter-idle.$$.py <<'SCRIPT'\n\
         import http.client, socket, sys\n\
         kept = http.client.HTTPSConnection('api.openai.com', timeout=20)\n\
         kept.request('POST', '/v1/chat/completions', r'{body}', {{'content-type': 'application/json'}})\n\
         print(kept.getresponse().read()[:1], flush=True)\n\
         try:\n    print('end' if kept.sock.recv(1) == b'' else 'data', flush=True)\n\
         except OSError as error:\n    print('error', error.errno, flush=True)\n\
         SCRIPT\n\
         python3 /tmp/meter-idle.$$.py > /tmp/meter-idle.$$ & idle=$!; \
         while ! test -s /tmp/meter-idle.$$; do sleep 0.01; done"
    ));
    spend(&mut shell);
    let ended = shell.run("wait $idle; tail -1 /tmp/meter-idle.$$; rm /tmp/meter-idle.$$*");
    assert!(ended.took < Duration::from_secs(3), "{ended:?}");
    assert!(ended.stdout.starts_with('e'), "{}", ended.stdout);
    wait_for("the account to stop", Duration::from_secs(5), || {
        (lab.daemon.account("wall").state == "stopped").then_some(())
    });
}
