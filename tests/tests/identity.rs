//! Whose connection is it: what belongs to an account cannot get out of it, and what does not is left alone.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener},
    time::Duration,
};

use meter_tests::harness::{
    Lab, LabOptions, Shell, assert_rows_match,
    chat::{Chat, status},
    must_run, wait_for_state,
};

const PLENTY: &str = "1";
const LITTLE: &str = "0.01";
/// Ten times the flow records that the kernel keeps (`FLOWS_MAX`).
const TEN_MAPS: u64 = 10 * meter_common::FLOWS_MAX as u64;

#[test]
fn a_process_two_cgroups_below_its_account_is_metered() {
    let lab = Lab::with_budget("deep", PLENTY);
    let mut shell = Shell::open(&lab.agent("deep"));
    let printed = shell.run(
        "root=$(findmnt -n -t cgroup2 -o TARGET | head -1); here=$root$(sed -n 's/^0:://p' /proc/self/cgroup); \
         mkdir -p $here/a/b && sh -c \"echo \\$\\$ > $here/a/b/cgroup.procs && grep ^0:: /proc/self/cgroup\"",
    );
    printed.expect_code(0);
    assert!(printed.stdout.trim().ends_with("/a/b"), "{}", printed.stdout);
    let line = Chat::ordinary().curl();
    let printed = shell.run(&format!(
        "(echo $BASHPID > $here/a/b/cgroup.procs; {line}); code=$?; rmdir $here/a/b $here/a; (exit $code)"
    ));
    assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
    assert_rows_match(&lab.daemon.ledger("deep"), &lab.simulator.exchanges());
    assert_eq!(lab.daemon.ledger("deep").len(), 1);
}

#[test]
fn binding_the_sidecars_port_is_refused() {
    let lab = Lab::with_budget("bind", PLENTY);
    let listening = must_run("ss -Hltnp");
    let pid = format!("pid={},", lab.daemon.pid());
    let ports: Vec<&str> = listening
        .lines()
        .filter(|line| line.contains(&pid))
        .filter_map(|line| line.split_whitespace().nth(3)?.rsplit(':').next())
        .collect();
    assert!(!ports.is_empty(), "{listening}");
    let mut shell = Shell::open(&lab.agent("bind"));
    for port in ports {
        for address in ["0.0.0.0", "127.0.0.1", "::"] {
            let family = if address.contains(':') { "AF_INET6" } else { "AF_INET" };
            let printed = shell.run(&format!(
                "python3 -c \"import socket as s; k=s.socket(s.{family}); k.setsockopt(s.SOL_SOCKET, s.SO_REUSEPORT, 1); \
                 k.setsockopt(s.SOL_SOCKET, s.SO_REUSEADDR, 1); k.bind(('{address}', {port}))\""
            ));
            assert_ne!(printed.code, 0, "bound {address}:{port}");
            assert!(printed.stdout.contains("PermissionError"), "{}", printed.stdout);
        }
    }
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
}

#[test]
fn sockets_that_would_escape_are_refused() {
    let lab = Lab::with_budget("kinds", PLENTY);
    let mut shell = Shell::open(&lab.agent("kinds"));
    // Raw TCP and MPTCP are refused as protocols that are not there, so that a client with a fallback takes it.
    for kind in ["s.AF_INET, s.SOCK_RAW, 6", "s.AF_INET6, s.SOCK_RAW, 6", "s.AF_INET, s.SOCK_STREAM, 262"] {
        let printed = shell.run(&format!("python3 -c \"import socket as s; s.socket({kind})\""));
        let plain = std::process::Command::new("python3")
            .args(["-c", &format!("import socket as s; s.socket({kind})")])
            .output()
            .unwrap();
        if plain.status.success() {
            assert!(printed.stdout.contains("Protocol not supported"), "{kind}: {}", printed.stdout);
        } else {
            assert_ne!(printed.code, 0, "{kind}");
        }
    }
    let quic = format!(
        "python3 -c \"import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'x', ('{}', 443))\"",
        lab.net.v4
    );
    assert_ne!(shell.run(&quic).code, 0);
}

#[test]
fn a_dual_stack_name_with_a_dead_ipv6_address_still_works() {
    let options = LabOptions { ipv4_only: true, ..LabOptions::default() };
    let dead = std::net::Ipv6Addr::new(0xfd88, 2, 0, 0, 0, 0, 0, 0xdead);
    let mut lab = Lab::start(options.budget("dual", PLENTY).name("api.openai.com", dead.into()));
    lab.daemon.expect_log("dead");
    assert_eq!(lab.net.dead_v6, dead);
    let mut shell = Shell::open(&lab.agent("dual"));
    let printed = shell.run(&Chat::ordinary().options("-6").curl());
    assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
    assert!(printed.took < Duration::from_secs(20), "{:?}", printed.took);
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
    assert_rows_match(&lab.daemon.ledger("dual"), &lab.simulator.exchanges());
}

#[test]
fn a_socket_bound_to_a_device_or_a_source_is_redirected() {
    let lab = Lab::with_budget("bound", PLENTY);
    let mut shell = Shell::open(&lab.agent("bound"));
    let device = format!("-4 --interface if!{}", lab.net.host_link());
    let v4 = format!("-4 --interface host!{}", lab.net.host_v4);
    let v6 = format!("-6 --interface host!{}", lab.net.host_v6);
    for option in [device, v4, v6] {
        let printed = shell.run(&Chat::ordinary().options(&option).curl());
        assert_eq!(status(&printed.stdout), 200, "{option}: {}", printed.stdout);
    }
    assert_eq!(lab.daemon.ledger("bound").len(), 3);
    assert_rows_match(&lab.daemon.ledger("bound"), &lab.simulator.exchanges());
}

#[test]
fn the_agent_sees_the_address_it_asked_for() {
    let lab = Lab::with_budget("peer", PLENTY);
    let mut shell = Shell::open(&lab.agent("peer"));
    for (option, address) in [("-4", IpAddr::from(lab.net.v4)), ("-6", lab.net.v6.into())] {
        let line = format!(
            "curl -sS {option} -o /dev/null -w '%{{remote_ip}} %{{remote_port}}' https://api.openai.com/v1/models; echo"
        );
        assert_eq!(shell.run(&line).stdout.trim(), format!("{address} 443"));
    }
}

/// Opens connections that are refused, and prints how many were.
fn refused_connects(count: u64, address: IpAddr) -> String {
    format!(
        "python3 -c \"\nimport socket, errno\nrefused = 0\nfor _ in range({count}):\n    s = socket.socket()\n    \
         refused += s.connect_ex(('{address}', 443)) == errno.ECONNREFUSED\n    s.close()\nprint(refused)\""
    )
}

#[test]
fn ten_maps_of_refused_connects_leave_the_meter_usable() {
    let mut lab = Lab::with_budget("storm", LITTLE);
    let mut shell = Shell::open(&lab.agent("storm"));
    while status(&shell.run(&Chat::ordinary().curl()).stdout) == 200 {}
    wait_for_state(&lab.daemon, "storm", "stopped");
    let storm = refused_connects(TEN_MAPS, lab.net.v4.into());
    assert_eq!(shell.run(&storm).stdout.trim(), TEN_MAPS.to_string());
    assert!(lab.daemon.account("storm").kernel.refused >= TEN_MAPS);
    lab.daemon.call("fund", &["storm", PLENTY]);
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);

    // Redirected, with nobody who listens: each published a flow that nobody takes.
    lab.daemon.expect_log("unresolved");
    lab.daemon.kill();
    assert_eq!(shell.run(&storm).stdout.trim(), TEN_MAPS.to_string());
    lab.daemon.launch();
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
}

#[test]
fn a_loopback_database_is_left_alone() {
    let lab = Lab::with_budget("local", PLENTY);
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = database.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        let (mut stream, peer) = database.accept().unwrap();
        stream.write_all(b"ready\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        (peer, text)
    });
    let mut shell = Shell::open(&lab.agent("local"));
    let printed = shell.run(&format!(
        "python3 -c \"\nimport socket\ns = socket.create_connection(('127.0.0.1', {port}))\nprint(s.getsockname()[1], s.recv(9))\n\
         s.sendall(b'query')\""
    ));
    printed.expect_code(0);
    let (peer, text) = served.join().unwrap();
    // The database sees the agent's own port: nobody stands in between.
    assert_eq!(printed.stdout.trim(), format!("{} b'ready\\n'", peer.port()));
    assert_eq!(text, "query");
    assert!(lab.daemon.ledger("local").is_empty());
}

#[test]
fn a_process_outside_every_account_is_untouched() {
    let lab = Lab::with_budget("inside", PLENTY);
    let mut outside = Shell::outside(lab.daemon.names());
    let ca = lab.simulator.ca_file();
    let printed = outside.run(&Chat::ordinary().options(&format!("-4 --cacert {}", ca.display())).curl());
    assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
    // The provider's own certificate was shown, since curl trusts no other; from the host's own address on that link.
    let exchange = lab.simulator.exchanges().pop().unwrap();
    assert_eq!(exchange.peer.ip(), IpAddr::from(lab.net.host_v4));
    assert_eq!(lab.daemon.status().accounts.iter().map(|account| account.exchanges).sum::<u64>(), 0);
}

#[test]
fn a_network_namespace_without_a_listener_is_refused() {
    let lab = Lab::with_budget("netns", PLENTY);
    let mut shell = Shell::open(&lab.agent("netns"));
    let before = lab.simulator.connections().len();
    // Without the meter a namespace without routes would say that the network is unreachable.
    let printed = shell.run(&format!("unshare --net bash -c 'exec 9<>/dev/tcp/{}/443'", lab.net.v4));
    assert!(printed.stdout.contains("Connection refused"), "{}", printed.stdout);
    // Nor by entering one that has a way out.
    let printed = shell.run(&format!("nsenter --net=/run/netns/msim bash -c 'exec 9<>/dev/tcp/{}/443'", lab.net.v4));
    assert_ne!(printed.code, 0, "{}", printed.stdout);
    assert_eq!(lab.simulator.connections().len(), before);
    assert!(lab.daemon.account("netns").kernel.refused >= 1);
}
