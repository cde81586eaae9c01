//! Where a connect goes, and what the agent and the sidecar see of it.

use super::*;

/// Dials from the account, and checks what the client and the sidecar see of it.
fn assert_redirected(dial: &str, asked: &str, shown: &str) {
    let edge = Edge::new();
    let mut client = edge.spawn_python(&format!("s = {dial}\nsay(s.getpeername()[0], s.getpeername()[1])\nwait()"));
    assert_eq!(line(&mut client), format!("{shown} 443"));
    let accepted = edge.accept();
    let flow = accepted.flow.expect("the accept finds a flow record");
    assert_eq!(flow.account, TASK);
    assert_eq!(address(flow.dest_addr), asked.parse::<IpAddr>().unwrap());
    assert_eq!(flow.dest_port, 443);
    assert_eq!(flow.pid, client.id());
    assert_eq!(events::comm(&flow.comm), "python3");
    assert!(flow.connected_boot_ns <= meter_agent::clock::boot_ns() && flow.connected_boot_ns > 0);
    assert!(accepted.peer.ip().is_loopback());
    edge.assert_counted(Reason::Redirected, 1);
    go_on(&mut client);
    finish(client);
    assert_eq!(edge.kernel.clear_flows().unwrap(), 0, "an accepted connection leaves no record");
}

#[test]
fn an_ipv4_connect_reaches_the_sidecar_and_shows_the_peer_asked_for() {
    assert_redirected("dial('198.51.100.7', 443)", ELSEWHERE, ELSEWHERE);
}

#[test]
fn an_ipv6_connect_reaches_the_sidecar_and_shows_the_peer_asked_for() {
    assert_redirected("dial('2001:db8::7', 443, socket.AF_INET6)", ELSEWHERE_V6, ELSEWHERE_V6);
}

#[test]
fn a_v4_mapped_connect_reaches_the_sidecar_and_shows_the_peer_asked_for() {
    assert_redirected("dial('::ffff:198.51.100.7', 443, socket.AF_INET6)", ELSEWHERE, "::ffff:198.51.100.7");
}

#[test]
fn a_process_two_cgroups_below_its_accounts_is_metered() {
    let edge = Edge::new();
    let below = edge.cgroup.join("a/b");
    fs::create_dir_all(&below).unwrap();
    python_in(&below, "dial('198.51.100.7', 443)");
    assert_eq!(edge.accept().flow.unwrap().account, TASK);
}

#[test]
fn the_deepest_account_is_the_one_charged() {
    let edge = Edge::new();
    let below = edge.cgroup.join("sub");
    fs::create_dir(&below).unwrap();
    edge.kernel.bind_cgroup(cgroup::id(&below).unwrap(), AGENT).unwrap();
    python_in(&below, "dial('198.51.100.7', 443)");
    assert_eq!(edge.accept().flow.unwrap().account, AGENT);
    edge.assert_counted(Reason::Redirected, 0);
}

#[test]
fn a_bound_source_address_is_redirected_and_its_record_found() {
    let edge = Edge::new();
    let own = own_address();
    edge.python(&format!("dial('198.51.100.7', 443, bind='{own}')"));
    let accepted = edge.accept();
    assert_eq!(accepted.peer.ip(), own);
    assert!(accepted.flow.is_some());
}

#[test]
fn a_socket_bound_to_a_device_is_redirected() {
    let edge = Edge::new();
    let _device = Device::new();
    assert_eq!(edge.python("say(attempt(lambda: dial('198.51.100.7', 443, device='meter-t0')))"), "ok");
    assert!(edge.accept().flow.is_some());
}

#[test]
fn a_socket_bound_to_a_device_by_a_user_without_rights_does_not_escape() {
    let edge = Edge::new();
    let _device = Device::new();
    let outcome = edge.python(
        "os.setgid(65534); os.setuid(65534)\nsay(attempt(lambda: dial('198.51.100.7', 443, device='meter-t0')))",
    );
    println!("bound to a device without CAP_NET_RAW: {outcome}");
    match outcome.as_str() {
        "ok" => assert!(edge.accept().flow.is_some()),
        "ECONNREFUSED" => edge.assert_counted(Reason::RefusedStorage, 1),
        other => panic!("{other}"),
    }
}

#[test]
fn an_agent_that_closes_at_once_is_still_known_when_its_connection_is_accepted() {
    let edge = Edge::new();
    edge.pause_accepts();
    edge.python("s = dial('198.51.100.7', 443); s.send(b'bye'); s.close()");
    edge.resume_accepts();
    let mut accepted = edge.accept();
    assert_eq!(accepted.flow.unwrap().account, TASK);
    let mut received = String::new();
    accepted.stream.read_to_string(&mut received).unwrap();
    assert_eq!(received, "bye");
}

#[test]
fn a_record_that_nobody_accepts_is_swept() {
    let edge = Edge::new();
    edge.pause_accepts();
    edge.python("dial('198.51.100.7', 443)");
    assert_eq!(edge.kernel.sweep_flows(std::time::Duration::from_mins(1)).unwrap(), 0);
    assert_eq!(edge.kernel.sweep_flows(std::time::Duration::ZERO).unwrap(), 1);
    edge.resume_accepts();
    assert!(edge.accept().flow.is_none());
}

#[test]
fn fast_open_and_nonblocking_connects_are_redirected() {
    let edge = Edge::new();
    edge.python(
        "s = socket.socket(); s.sendto(b'x', socket.MSG_FASTOPEN, ('198.51.100.7', 443))\n\
         t = socket.socket(); t.setblocking(False); t.connect_ex(('198.51.100.7', 443))\n\
         import select; select.select([], [t], [], 5)",
    );
    assert!(edge.accept().flow.is_some() && edge.accept().flow.is_some());
}

#[test]
fn a_socket_used_again_has_a_new_record_and_a_direct_peer_is_shown_as_it_is() {
    let edge = Edge::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let printed = edge.python(&format!(
        "s = dial('198.51.100.7', 443)\n\
         import ctypes, struct\n\
         libc = ctypes.CDLL(None, use_errno=True)\n\
         libc.connect(s.fileno(), struct.pack('H14x', socket.AF_UNSPEC), 16)\n\
         s.connect(('127.0.0.1', {port})); say(s.getpeername())"
    ));
    assert_eq!(printed, format!("('127.0.0.1', {port})"));
    edge.assert_counted(Reason::Direct, 1);
}

#[test]
fn a_socket_handed_to_a_process_outside_keeps_its_account() {
    let edge = Edge::new();
    let outside = scratch_cgroup("outside");
    let procs = outside.join("cgroup.procs");
    edge.python(&format!(
        "s = socket.socket()\nopen('{}', 'w').write(str(os.getpid()))\ns.connect(('198.51.100.7', 443))",
        procs.display()
    ));
    assert_eq!(edge.accept().flow.unwrap().account, TASK);
    remove_cgroup(&outside);
}

#[test]
fn a_cgroup_made_again_at_the_same_path_starts_unbound() {
    let edge = Edge::new();
    let old = cgroup::id(&edge.cgroup).unwrap();
    remove_cgroup(&edge.cgroup);
    fs::create_dir(&edge.cgroup).unwrap();
    let new = cgroup::id(&edge.cgroup).unwrap();
    assert_ne!(new, old);
    assert_eq!((edge.kernel.bound_to(old).unwrap(), edge.kernel.bound_to(new).unwrap()), (Some(TASK), None));
    let own = own_address();
    let server = TcpListener::bind((own, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    edge.publish(TASK.slot, |record| record.remaining = 0);
    assert_eq!(edge.python(&format!("s = dial('{own}', {port}); say(*s.getpeername())")), format!("{own} {port}"));
    assert_eq!(edge.counters(), meter_common::Counters::default(), "the old id is believed");
    edge.kernel.bind_cgroup(new, TASK).unwrap();
    assert_eq!(edge.python("say(attempt(lambda: dial('198.51.100.7', 443)))"), "ECONNREFUSED");
    edge.assert_counted(Reason::RefusedSpent, 1);
}

#[test]
fn another_cgroup_is_left_alone() {
    let edge = Edge::new();
    let outside = scratch_cgroup("outside");
    let own = own_address();
    let server = TcpListener::bind((own, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let shown = python_in(&outside, &format!("s = dial('{own}', {port}); say(*s.getpeername())"));
    assert_eq!(shown, format!("{own} {port}"));
    let refused = format!("say(attempt(lambda: socket.socket().bind(('127.0.0.2', {}))))", edge.listeners.ports[0]);
    assert_eq!(python_in(&outside, &refused), "ok");
    assert_eq!(python_in(&outside, "say(attempt(lambda: socket.socket(proto=262)))"), "ok");
    edge.assert_nothing_accepted();
    assert_eq!(edge.kernel.counters(HOST_SLOT).unwrap(), meter_common::Counters::default());
    remove_cgroup(&outside);
}
