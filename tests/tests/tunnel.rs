//! Hosts that cost nothing: passed through unread, whoever speaks first, their bytes counted.

use std::{net::Ipv4Addr, time::Duration};

use meter_tests::{
    harness::{Lab, LabOptions, Shell, must_run, wait_for},
    simulator::{BANNER, Config, SPEAKS_FIRST_PORT},
};

const SIMULATOR: Ipv4Addr = Ipv4Addr::new(10, 88, 1, 2);

fn lab() -> Lab {
    let simulator = Config { echo_names: vec!["echo.example".to_owned()], ..Config::default() };
    let options = LabOptions { simulator, ..LabOptions::default() }.budget("tunnel", "1");
    Lab::start(options.name("echo.example", SIMULATOR.into()).name("mail.example", SIMULATOR.into()))
}

#[test]
fn a_host_that_is_no_provider_shows_its_own_certificate() {
    let lab = lab();
    let mut shell = Shell::open(&lab.agent("tunnel"));
    let printed = shell.run(
        "openssl s_client -connect echo.example:443 -servername echo.example </dev/null | openssl x509 -noout -issuer",
    );
    assert!(printed.stdout.contains("meter test CA"), "{}", printed.stdout);
    // A provider's connection is terminated, and shows another issuer.
    let printed = shell.run("openssl s_client -connect api.openai.com:443 -servername api.openai.com </dev/null | openssl x509 -noout -issuer");
    assert!(!printed.stdout.contains("meter test CA"), "{}", printed.stdout);
    assert!(lab.daemon.ledger("tunnel").is_empty());
}

#[test]
fn a_server_that_speaks_first_waits_for_nothing() {
    let lab = lab();
    let mut shell = Shell::open(&lab.agent("tunnel"));
    let printed = shell.run(&format!("exec 9<>/dev/tcp/mail.example/{SPEAKS_FIRST_PORT}; head -1 <&9; exec 9>&-"));
    assert_eq!(printed.stdout.trim(), BANNER.trim());
    assert!(printed.took < Duration::from_millis(300), "{:?}", printed.took);
}

#[test]
fn bytes_are_counted() {
    let lab = lab();
    let mut shell = Shell::open(&lab.agent("tunnel"));
    let before = lab.daemon.account("tunnel").kernel;
    // The greeting is read first: closing with something unread would throw away what has not left yet.
    let upload = "head -1 <&9 && head -c 1000000 /dev/zero >&9 && exec 9>&-";
    shell.run(&format!("exec 9<>/dev/tcp/mail.example/{SPEAKS_FIRST_PORT}; {upload}")).expect_code(0);
    // The shell is done when the kernel has the bytes, which is before they have left.
    wait_for("the bytes to be counted", Duration::from_secs(10), || {
        let after = lab.daemon.account("tunnel").kernel;
        (after.egress_bytes - before.egress_bytes >= 1_000_000).then_some(())
    });
    assert_eq!(lab.daemon.account("tunnel").kernel.connects, before.connects + 1);
}

#[test]
fn an_upstream_that_refuses_resets_the_tunnel_at_once() {
    let mut lab = lab();
    lab.daemon.expect_log("mail.example");
    lab.daemon.expect_log("10.88.1.2");
    let mut shell = Shell::open(&lab.agent("tunnel"));
    let printed = shell.run("exec 9<>/dev/tcp/mail.example/2626; timeout 10 head -1 <&9; exec 9>&-");
    assert!(printed.took < Duration::from_secs(2), "{:?}", printed.took);
    assert!(printed.stdout.contains("reset"), "{}", printed.stdout);
}

#[test]
fn an_address_that_an_entry_names_with_its_port_is_never_passed_through() {
    let mut options = LabOptions::default().budget("tunnel", "1");
    options.daemon.hosts = vec![(format!("{SIMULATOR}:{SPEAKS_FIRST_PORT}"), "openai".to_owned())];
    let lab = Lab::start(options);
    let mut shell = Shell::open(&lab.agent("tunnel"));
    let open = format!("exec 9<>/dev/tcp/{SIMULATOR}/{SPEAKS_FIRST_PORT}");
    // Whoever is silent until the server has spoken is not served by it,
    let printed = shell.run(&format!("{open}; timeout 0.5 head -1 <&9; exec 9>&-"));
    assert!(!printed.stdout.contains(BANNER.trim()), "{}", printed.stdout);
    // nor is one who speaks something else than HTTP.
    let printed = shell.run(&format!("{open}; echo hello >&9; timeout 10 head -1 <&9; exec 9>&-"));
    assert!(printed.stdout.contains("reset"), "{}", printed.stdout);
    assert_eq!(lab.simulator.connections().len(), 0);
}

#[test]
fn an_agent_that_is_slow_to_speak_costs_the_provider_one_connection() {
    let lab = lab();
    let script = "import http.client, time\n\
        kept = http.client.HTTPConnection('api.openai.com', 80)\n\
        kept.connect()\n\
        time.sleep(0.2)\n\
        kept.request('GET', '/v1/models')\n\
        kept.getresponse().read()\n\
        print('answered', flush=True)\n\
        time.sleep(60)";
    let mut agent = lab.agent("tunnel").spawn(&["python3", "-c", script]);
    let mut answered = [0; 8];
    std::io::Read::read_exact(&mut agent.stdout(), &mut answered).unwrap();
    let open = must_run("ss -Htn state established dport = :80");
    let upstream = open.lines().filter(|line| line.contains("10.88.1.2:80") || line.contains("fd88:")).count();
    // The agent's own end shows the same destination only to itself.
    assert_eq!(upstream, 1, "{open}");
}
