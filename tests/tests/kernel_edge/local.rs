//! Loopback, the namespace's own addresses, and host entries among them.

use super::*;

#[test]
fn loopback_and_own_addresses_are_direct_counted_and_obey_the_state() {
    let edge = Edge::new();
    let own = own_address();
    edge.kernel.set_locals(edge.cookie, &[own], &[]).unwrap();
    let server = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let script = format!(
        "say(*[attempt(lambda: dial(a, {port})) for a in ('127.0.0.1', '0.0.0.0', '{own}')], \
         attempt(lambda: dial('::ffff:127.0.0.1', {port}, socket.AF_INET6)))"
    );
    assert_eq!(edge.python(&script), "ok ok ok ok");
    edge.assert_counted(Reason::Direct, 4);
    edge.assert_nothing_accepted();
    edge.publish(TASK.slot, |record| record.remaining = 0);
    assert_eq!(edge.python(&script), ["ECONNREFUSED"; 4].join(" "));
    edge.assert_counted(Reason::RefusedSpent, 4);
}

#[test]
fn a_host_entry_redirects_even_loopback_and_only_its_port() {
    let edge = Edge::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let loopback: IpAddr = "127.0.0.1".parse().unwrap();
    edge.kernel.set_locals(edge.cookie, &[loopback], &[(loopback, 8443)]).unwrap();
    edge.python(&format!("dial('127.0.0.1', 8443); dial('127.0.0.1', {port})"));
    assert_eq!(edge.accept().flow.unwrap().dest_port, 8443);
    edge.assert_counted(Reason::Direct, 1);
    edge.kernel.set_locals(edge.cookie, &[], &[(loopback, 0)]).unwrap();
    edge.python("dial('127.0.0.1', 99)");
    assert_eq!(edge.accept().flow.unwrap().dest_port, 99);
    edge.kernel.set_locals(edge.cookie, &[], &[]).unwrap();
    edge.python(&format!("dial('127.0.0.1', {port})"));
    edge.assert_counted(Reason::Direct, 2);
}

#[test]
fn a_change_of_addresses_is_noticed() {
    let _edge = Edge::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let watch = meter_agent::kernel::local::Watch::open().unwrap();
        let _device = Device::new();
        run("ip", &["addr", "add", "203.0.113.9/32", "dev", "meter-t0"]);
        tokio::time::timeout(std::time::Duration::from_secs(5), watch.changed()).await.unwrap().unwrap();
        let local = meter_agent::kernel::local::Local::read().unwrap();
        assert!(local.addresses.contains(&"203.0.113.9".parse().unwrap()));
    });
}
