//! The sidecar as the kernel knows it: hung, ended, attached again, taken away, and its listeners and ports.

use super::*;

#[test]
fn a_hung_sidecar_refuses_until_it_lives_again() {
    let mut edge = Edge::new();
    edge.stop_heart();
    let stale = meter_common::HEARTBEAT_STALE_NS;
    let beat = meter_agent::clock::monotonic_ns();
    edge.kernel.heartbeat();
    while meter_agent::clock::monotonic_ns() <= beat + stale + stale / 10 {
        std::thread::yield_now();
    }
    let dial = "say(attempt(lambda: dial('198.51.100.7', 443)))";
    assert_eq!(edge.python(dial), "ECONNREFUSED");
    edge.assert_counted(Reason::RefusedSidecar, 1);
    // With the operator's explicit choice, connects go direct instead.
    let own = own_address();
    let server = TcpListener::bind((own, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    edge.kernel.set_loss_direct(true);
    assert_eq!(edge.python(&format!("s = dial('{own}', {port}); say(*s.getpeername())")), format!("{own} {port}"));
    edge.assert_counted(Reason::Direct, 1);
    edge.kernel.heartbeat();
    assert_eq!(edge.python(dial), "ok");
    assert!(edge.accept().flow.is_some());
}

#[test]
fn a_sidecar_that_has_ended_refuses_at_once_and_is_not_waited_for() {
    let mut edge = Edge::new();
    edge.stop_heart();
    edge.kernel.heartbeat();
    assert!(Kernel::another_is_alive().unwrap());
    edge.kernel.end_heartbeat();
    assert!(!Kernel::another_is_alive().unwrap());
    assert_eq!(edge.python("say(attempt(lambda: dial('198.51.100.7', 443)))"), "ECONNREFUSED");
    edge.assert_counted(Reason::RefusedSidecar, 1);
}

#[test]
fn ten_maps_worth_of_refused_connects_leave_it_usable() {
    let mut edge = Edge::new();
    edge.close_listeners();
    let each = u64::from(meter_common::FLOWS_MAX) * 10 / 2;
    edge.python(&format!(
        "child = os.fork()\n\
         for _ in range({each}):\n    \
             s = socket.socket()\n    \
             assert s.connect_ex(('198.51.100.7', 443)) == errno.ECONNREFUSED\n    \
             s.close()\n\
         if child: assert os.waitpid(child, 0)[1] == 0"
    ));
    edge.assert_counted(Reason::Redirected, each * 2);
    edge.assert_counted(Reason::FlowLost, 0);
    assert_eq!(edge.kernel.clear_flows().unwrap(), 0, "a refused connection leaves no record");
}

#[test]
fn an_account_cannot_take_the_sidecars_ports() {
    let edge = Edge::new();
    let port = edge.listeners.ports[1];
    let outcome = edge.python(&format!(
        "say(attempt(lambda: socket.socket().bind(('127.0.0.2', {port}))), \
         attempt(lambda: socket.socket(socket.AF_INET6).bind(('::', {port}))), \
         attempt(lambda: socket.socket(type=socket.SOCK_DGRAM).bind(('127.0.0.1', {port}))), \
         attempt(lambda: socket.socket().bind(('127.0.0.2', 1023))))"
    ));
    assert_eq!(outcome, "EACCES EACCES EACCES ok");
    edge.assert_counted(Reason::RefusedBind, 3);
}

#[test]
fn a_flow_to_the_sidecars_own_listener_is_refused() {
    let edge = Edge::new();
    let port = edge.listeners.ports[2];
    let outcome = edge.python(&format!(
        "say(*[attempt(lambda: dial(a, {port})) for a in ('127.0.0.1', '0.0.0.0', '127.9.9.9')], \
         *[attempt(lambda: dial(a, {port}, socket.AF_INET6)) for a in ('::1', '::', '::ffff:127.0.0.1', '::ffff:0.0.0.0')])"
    ));
    assert_eq!(outcome, ["ECONNREFUSED"; 7].join(" "));
    edge.assert_counted(Reason::RefusedListener, 7);
    edge.assert_nothing_accepted();
}

#[test]
fn a_namespace_without_a_listener_is_refused() {
    let edge = Edge::new();
    let script = "import ctypes; assert ctypes.CDLL(None).unshare(0x40000000) == 0\n\
         say(attempt(lambda: dial('198.51.100.7', 443)), attempt(lambda: dial('127.0.0.1', 80)))";
    assert_eq!(edge.python(script), "ECONNREFUSED ECONNREFUSED");
    edge.assert_counted(Reason::RefusedNamespace, 2);
    edge.kernel.clear_listeners(edge.cookie).unwrap();
    assert_eq!(edge.python("say(attempt(lambda: dial('198.51.100.7', 443)))"), "ECONNREFUSED");
    edge.assert_counted(Reason::RefusedNamespace, 3);
}

#[test]
fn without_an_ipv6_route_the_clients_own_fallback_lives() {
    let edge = Edge::new();
    edge.kernel.set_listeners(edge.cookie, Listeners { ipv6_route: 0, ..edge.listeners }).unwrap();
    let outcome = edge.python(
        "say(attempt(lambda: dial('2001:db8::7', 443, socket.AF_INET6)), \
         attempt(lambda: dial('::ffff:198.51.100.7', 443, socket.AF_INET6)))",
    );
    assert_eq!(outcome, "ENETUNREACH ok");
    edge.assert_counted(Reason::NoIpv6Route, 1);
}

#[test]
fn attaching_again_keeps_the_maps_and_has_no_gap() {
    let edge = Edge::new();
    edge.publish(TASK.slot, |record| record.spent = 77);
    let mut client = edge.spawn_python(
        "n = 0\nsay('up')\nimport select\nwhile not select.select([sys.stdin], [], [], 0)[0]: dial('198.51.100.7', 443).close(); n += 1\nsay(n)",
    );
    line(&mut client);
    for _ in 0..5 {
        let again = Kernel::attach().unwrap();
        assert!(again.survived());
        assert_eq!(again.book().read(TASK.slot).spent, 77);
        assert_eq!(again.bound_cgroups().unwrap(), edge.kernel.bound_cgroups().unwrap());
    }
    go_on(&mut client);
    // A connect that escaped would fail: nobody is at that address.
    let connects: u64 = finish(client).parse().unwrap();
    assert!(connects > 0);
    edge.assert_counted(Reason::Redirected, connects);
    for _ in 0..connects {
        assert!(edge.accept().flow.is_some());
    }
}

#[test]
fn uninstalling_leaves_nothing() {
    let edge = Edge::new();
    let own = own_address();
    let server = TcpListener::bind((own, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    assert!(Kernel::uninstall().unwrap());
    assert!(!fs::exists("/sys/fs/bpf/meter").unwrap());
    assert_eq!(edge.python(&format!("s = dial('{own}', {port}); say(*s.getpeername())")), format!("{own} {port}"));
    edge.assert_nothing_accepted();
    assert!(!Kernel::uninstall().unwrap());
}

#[test]
fn every_prerequisite_is_checked_and_met() {
    let edge = Edge::new();
    let checks = meter_agent::kernel::checks::checks();
    assert_eq!(checks.len(), 5 + 12);
    for check in checks {
        assert!(check.outcome.is_ok(), "{check:?}");
    }
    drop(edge);
}
