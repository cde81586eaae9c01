//! What people stop and let go on: who refuses, how soon, what was under way, and what survives a crash.

#![expect(clippy::disallowed_methods, reason = "a test takes the time of what it looks at")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use meter_tests::{
    harness::{
        Daemon, Lab, LabOptions, Shell, binary,
        chat::{Chat, status},
        wait_for, wait_for_state,
    },
    simulator::{Config, log::End},
};

/// A cut or a refusal that takes longer has waited for something.
const AT_ONCE: Duration = Duration::from_secs(1);
const PLENTY: &str = "1";
/// Fits seven ordinary chats.
const LITTLE: &str = "0.02";

/// Connects by address, and prints the name of what went wrong.
fn connect(lab: &Lab) -> String {
    format!(
        "python3 -c \"import errno, socket; print(errno.errorcode.get(socket.socket().connect_ex(('{}', 443)), 'OPEN'))\"",
        lab.net.v4
    )
}

fn chat(shell: &mut Shell) -> u16 {
    status(&shell.run(&Chat::ordinary().curl()).stdout)
}

/// A chat that streams for a minute, in the background of the shell; returns when its first event has come.
fn stream(shell: &mut Shell) {
    let chat = Chat::ordinary().stream().options("-N").with(|directive| {
        directive.chunks = Some(600);
        directive.delay_ms = 100;
    });
    shell.run("work=$(mktemp -d)").expect_code(0);
    shell.run(&format!(
        "({}) > $work/stream 2>&1 & stream=$!; while ! grep -q data: $work/stream; do sleep 0.01; done",
        chat.curl()
    ));
}

fn revoke(lab: &Lab, account: &str) -> Instant {
    lab.daemon.call("revoke", &[account, "--reason", "runs wild"]);
    Instant::now()
}

/// One account of `meter status --json`, with every member.
fn json(daemon: &Daemon, account: &str) -> serde_json::Value {
    let text = daemon.call("status", &["--json"]);
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let found = status["accounts"].as_array().unwrap().iter().find(|report| report["account"] == account);
    found.unwrap_or_else(|| panic!("no {account} in {status}")).clone()
}

#[test]
fn a_revocation_cuts_a_stream_at_once_on_both_sides() {
    let lab = Lab::with_budget("wild", PLENTY);
    let mut shell = Shell::open(&lab.agent("wild"));
    stream(&mut shell);
    let revoked = revoke(&lab, "wild");
    let ended = shell.run("wait $stream; cat $work/stream; rm -r $work");
    assert!(revoked.elapsed() < AT_ONCE, "{:?}", revoked.elapsed());
    assert!(!ended.stdout.contains("[DONE]"), "{}", ended.stdout);
    let exchange = wait_for("the provider's side to end", AT_ONCE, || lab.simulator.exchanges().pop());
    assert_eq!(exchange.end, End::ClientGone);
    assert!(revoked.elapsed() < 2 * AT_ONCE, "{:?}", revoked.elapsed());

    assert_eq!(shell.run(&connect(&lab)).stdout.trim(), "ECONNREFUSED");
    let row =
        wait_for("its row", Duration::from_secs(10), || lab.daemon.ledger("wild").into_iter().find(|row| row.stream));
    assert_eq!(row.outcome, "cut", "{row:#?}");
    assert!(row.cost() > 0, "{row:#?}");
    let account = lab.daemon.account("wild");
    assert_eq!((account.state.as_str(), account.held_usd.as_str()), ("revoked", "0"), "{account:#?}");
}

#[test]
fn a_revocation_resets_a_tunnel() {
    let options = LabOptions {
        simulator: Config { echo_names: vec!["echo.example".to_owned()], ..Config::default() },
        ..LabOptions::default()
    };
    let lab = Lab::start(options.budget("wild", PLENTY).name("echo.example", Ipv4Addr::new(10, 88, 1, 2).into()));
    let mut shell = Shell::open(&lab.agent("wild"));
    let ca = lab.simulator.ca_file();
    shell.run("work=$(mktemp -d); mkfifo $work/in").expect_code(0);
    shell
        .run(&format!(
            "openssl s_client -quiet -verify_return_error -CAfile {} -connect echo.example:443 -servername echo.example \
             < $work/in > $work/out 2> $work/errors & tunnel=$!; exec 8> $work/in; echo hello >&8; \
             for i in $(seq 500); do grep -q hello $work/out && break; sleep 0.01; done; grep hello $work/out",
            ca.display()
        ))
        .expect_code(0);
    let revoked = revoke(&lab, "wild");
    shell.run("timeout 5 tail --pid=$tunnel -f /dev/null").expect_code(0);
    // `tail` looks once a second.
    assert!(revoked.elapsed() < AT_ONCE + Duration::from_millis(1_100), "{:?}", revoked.elapsed());
    shell.run("exec 8>&-; rm -r $work");
}

#[test]
fn a_revocation_ends_an_idle_connection() {
    let lab = Lab::with_budget("wild", PLENTY);
    let mut shell = Shell::open(&lab.agent("wild"));
    let body = Chat::ordinary().body();
    shell.run(&format!(
        "work=$(mktemp -d); cat > $work/idle.py <<'SCRIPT'\n\
         import http.client, sys\n\
         kept = http.client.HTTPSConnection('api.openai.com', timeout=20)\n\
         kept.request('POST', '/v1/chat/completions', r'{body}', {{'content-type': 'application/json'}})\n\
         print(kept.getresponse().read()[:1], flush=True)\n\
         try:\n    print('end' if kept.sock.recv(1) == b'' else 'data', flush=True)\n\
         except OSError as error:\n    print('error', error.errno, flush=True)\n\
         SCRIPT\n\
         python3 $work/idle.py > $work/out & idle=$!; while ! test -s $work/out; do sleep 0.01; done"
    ));
    let revoked = revoke(&lab, "wild");
    let ended = shell.run("wait $idle; tail -1 $work/out; rm -r $work");
    assert!(revoked.elapsed() < AT_ONCE, "{:?}", revoked.elapsed());
    assert!(ended.stdout.starts_with('e'), "{}", ended.stdout);
}

#[test]
fn a_revocation_ends_a_direct_connection_at_both_ends() {
    let lab = Lab::with_budget("wild", PLENTY);
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = database.local_addr().unwrap().port();
    let mut shell = Shell::open(&lab.agent("wild"));
    shell.run(&format!(
        "python3 -c \"\nimport socket\ns = socket.create_connection(('127.0.0.1', {port}))\ns.sendall(b'query')\n\
         try:\n    print('end' if s.recv(1) == b'' else 'data')\nexcept OSError as error:\n    print('error', error.errno)\n\
         \" > /tmp/meter-direct.$$ & direct=$!"
    ));
    let (mut server, _) = database.accept().unwrap();
    let mut query = [0; 5];
    server.read_exact(&mut query).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let revoked = revoke(&lab, "wild");
    // Nobody of the database's is in the account, and its own connection has ended all the same.
    let told = server.read(&mut query).map_err(|error| error.kind());
    assert!(matches!(told, Ok(0) | Err(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)), "{told:?}");
    let ended = shell.run("wait $direct; cat /tmp/meter-direct.$$; rm /tmp/meter-direct.$$");
    assert!(revoked.elapsed() < 2 * AT_ONCE, "{:?}", revoked.elapsed());
    assert!(ended.stdout.starts_with('e'), "{}", ended.stdout);
    // A new one is refused, and the same host's others are not.
    let printed = shell.run(&format!("(exec 9<>/dev/tcp/127.0.0.1/{port})"));
    assert!(printed.stdout.contains("Connection refused"), "{}", printed.stdout);
    let other = std::net::TcpStream::connect(("127.0.0.1", port));
    other.unwrap().write_all(b"x").unwrap();
}

#[test]
fn no_name_is_looked_up_for_a_revoked_account() {
    let options = LabOptions { resolver: true, ..LabOptions::default() };
    let lab = Lab::start(options.budget("wild", PLENTY));
    let mut shell = Shell::open(&lab.agent("wild"));
    assert_eq!(chat(&mut shell), 200);
    revoke(&lab, "wild");
    let questions = lab.simulator.questions().len();
    let printed = shell.run("timeout 20 getent hosts api.anthropic.com");
    assert_ne!(printed.code, 0, "{}", printed.stdout);
    assert_eq!(lab.simulator.questions().len(), questions);
    assert_eq!(shell.run(&connect(&lab)).stdout.trim(), "ECONNREFUSED");
}

#[test]
fn a_restored_account_goes_on_without_restarting_anything() {
    let lab = Lab::with_budget("wild", PLENTY);
    let mut shell = Shell::open(&lab.agent("wild"));
    revoke(&lab, "wild");
    assert_eq!(shell.run(&connect(&lab)).stdout.trim(), "ECONNREFUSED");
    lab.daemon.call("restore", &["wild"]);
    assert_eq!(lab.daemon.account("wild").state, "open");
    assert_eq!(chat(&mut shell), 200);
    // What is so already is said to be, and is no failure.
    assert!(lab.daemon.call("restore", &["wild"]).contains("is not revoked"));
}

#[test]
fn a_halt_stops_every_agent_and_a_resume_lets_them_go_on() {
    let lab = Lab::start(LabOptions::default().budget("one", PLENTY).budget("two", PLENTY));
    let mut shells = [Shell::open(&lab.agent("one")), Shell::open(&lab.agent("two"))];
    stream(&mut shells[0]);
    lab.daemon.call("halt", &["--reason", "fire drill"]);
    let halted = Instant::now();
    shells[0].run("wait $stream; rm -r $work");
    assert!(halted.elapsed() < AT_ONCE, "{:?}", halted.elapsed());
    for shell in &mut shells {
        assert_eq!(shell.run(&connect(&lab)).stdout.trim(), "ECONNREFUSED");
    }
    // An agent that comes now finds the same.
    let late = lab.agent("late").shell(&connect(&lab));
    assert_eq!(late.stdout.trim(), "ECONNREFUSED", "{late:?}");
    let host = json(&lab.daemon, "host");
    assert_eq!((&host["state"], &host["reason"]), (&"revoked".into(), &"fire drill".into()), "{host}");
    assert_eq!(json(&lab.daemon, "two")["shut_by"], "host");
    let shown = lab.daemon.call("status", &[]);
    assert!(shown.contains("open (halt)") && shown.contains("fire drill"), "{shown}");

    lab.daemon.call("resume", &[]);
    for shell in &mut shells {
        assert_eq!(chat(shell), 200);
    }
}

#[test]
fn a_revocation_survives_a_kill_a_restart_and_the_loss_of_the_kernels_maps() {
    let mut lab = Lab::with_budget("wild", PLENTY);
    let mut shell = Shell::open(&lab.agent("wild"));
    // It is inside by then; one that still asks would start a daemon of its own.
    shell.run("true").expect_code(0);
    revoke(&lab, "wild");
    let since = json(&lab.daemon, "wild")["since"].clone();
    lab.daemon.kill();
    assert_eq!(shell.run(&connect(&lab)).stdout.trim(), "ECONNREFUSED");
    lab.daemon.launch();
    let refused = |lab: &Lab, shell: &mut Shell| {
        assert_eq!(shell.run(&connect(lab)).stdout.trim(), "ECONNREFUSED");
        let account = json(&lab.daemon, "wild");
        assert_eq!((&account["state"], &account["reason"]), (&"revoked".into(), &"runs wild".into()), "{account}");
        assert_eq!(account["since"], since);
    };
    refused(&lab, &mut shell);
    assert!(lab.daemon.stop().success());
    assert!(lab.daemon.output("uninstall", &[]).status.success());
    lab.daemon.launch();
    refused(&lab, &mut shell);
    lab.daemon.call("restore", &["wild"]);
    // The uninstall took the shell's file of certificates with it, so that a connect must do.
    assert_eq!(shell.run(&connect(&lab)).stdout.trim(), "OPEN");
}

#[test]
fn a_halt_survives_a_kill() {
    let mut lab = Lab::with_budget("any", PLENTY);
    let mut shell = Shell::open(&lab.agent("any"));
    // It is inside by then; one that still asks would start a daemon of its own.
    shell.run("true").expect_code(0);
    lab.daemon.call("halt", &[]);
    lab.daemon.kill();
    assert_eq!(shell.run(&connect(&lab)).stdout.trim(), "ECONNREFUSED");
    lab.daemon.launch();
    assert_eq!(shell.run(&connect(&lab)).stdout.trim(), "ECONNREFUSED");
    lab.daemon.call("resume", &[]);
    assert_eq!(chat(&mut shell), 200);
}

#[test]
fn an_extension_opens_a_stopped_account_and_ends_by_itself() {
    let mut lab = Lab::with_budget("over", LITTLE);
    let mut shell = Shell::open(&lab.agent("over"));
    while chat(&mut shell) == 200 {}
    wait_for_state(&lab.daemon, "over", "stopped");
    lab.daemon.call("extend", &["over", "--for", "8s", "--by", PLENTY]);
    let extended = Instant::now();
    assert_eq!(lab.daemon.account("over").state, "open");
    assert_eq!(chat(&mut shell), 200);
    // It is the ledger's too.
    lab.daemon.kill();
    lab.daemon.launch();
    if extended.elapsed() < Duration::from_secs(7) {
        assert_eq!(lab.daemon.account("over").state, "open");
    }
    wait_for("the extension's end", Duration::from_secs(20), || {
        (lab.daemon.account("over").state == "stopped").then_some(())
    });
    assert!(extended.elapsed() >= Duration::from_secs(8), "{:?}", extended.elapsed());
    assert_eq!(shell.run(&connect(&lab)).stdout.trim(), "ECONNREFUSED");
}

#[test]
fn an_agent_inside_an_account_cannot_lift_or_set_what_is_for_people() {
    let lab = Lab::with_budget("inside", LITTLE);
    let mut shell = Shell::open(&lab.agent("inside").task("t"));
    let meter = |words: &str| {
        let (name, rest) = words.split_once(' ').unwrap_or((words, ""));
        format!("{} {name} --config {} {rest}", binary("meter").display(), lab.daemon.config_file().display())
    };
    for words in [
        "revoke inside --reason x",
        "restore inside",
        "halt",
        "resume",
        "extend inside --for 1h --by 5",
        "fund inside 5",
    ] {
        let printed = shell.run(&meter(words));
        printed.expect_code(1);
        assert!(printed.stdout.contains("a process of the account inside/t can't"), "{words}: {}", printed.stdout);
    }
    assert_eq!(lab.daemon.account("host").state, "open");
    let account = lab.daemon.account("inside");
    assert_eq!((account.state.as_str(), account.remaining_usd.as_deref()), ("open", Some(LITTLE)), "{account:#?}");
}

#[test]
fn an_agent_that_takes_every_place_at_the_daemons_socket_keeps_nobody_from_a_halt() {
    let lab = Lab::with_budget("wild", PLENTY);
    let mut shell = Shell::open(&lab.agent("wild"));
    let socket = lab.daemon.run_dir().join("meter.sock");
    shell.run(&format!(
        "work=$(mktemp -d); cat > $work/places.py <<'SCRIPT'\n\
         import socket, time\n\
         kept = []\n\
         for _ in range(500):\n    place = socket.socket(socket.AF_UNIX)\n    place.setblocking(False)\n    \
         try:\n        place.connect('{}')\n    except BlockingIOError:\n        break\n    kept.append(place)\n\
         print(len(kept), flush=True)\n\
         time.sleep(60)\n\
         SCRIPT\n\
         python3 $work/places.py > $work/out & places=$!; while ! test -s $work/out; do sleep 0.01; done",
        socket.display()
    ));
    let asked = Instant::now();
    lab.daemon.call("halt", &[]);
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    shell.run("kill $places; rm -r $work");
}

#[test]
fn what_people_do_is_told_with_time_actor_and_reason() {
    let lab = Lab::with_budget("told", PLENTY);
    revoke(&lab, "told");
    lab.daemon.call("restore", &["told"]);
    lab.daemon.call("extend", &["told", "--for", "1h", "--by", "5"]);
    lab.daemon.call("fund", &["told", "2"]);
    lab.daemon.call("halt", &["--reason", "fire drill"]);
    lab.daemon.call("resume", &[]);
    let events = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let text = lab.daemon.call("events", &[&["--json"], arguments].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let of_agent = events(&["--account", "told"]);
    let kinds: Vec<&str> = of_agent.iter().filter_map(|event| event["kind"].as_str()).collect();
    assert_eq!(kinds, ["revoked", "restored", "extended", "funded"]);
    assert!(of_agent.iter().all(|event| event["actor_uid"] == 0 && event["account"] == "told"), "{of_agent:?}");
    assert_eq!(of_agent[0]["text"], "runs wild");
    assert!(of_agent[0]["time"].as_str().unwrap() <= of_agent[1]["time"].as_str().unwrap());
    let halts = events(&["--kind", "revoked", "-n", "1"]);
    assert_eq!((&halts[0]["account"], &halts[0]["text"]), (&"host".into(), &"fire drill".into()), "{halts:?}");
    assert!(lab.daemon.call("events", &[]).contains("uid 0"));
    let extended = json(&lab.daemon, "told");
    assert_eq!(extended["limits"][0]["limit"], "8", "one, two funded and five for an hour: {extended}");
}
