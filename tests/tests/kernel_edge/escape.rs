//! Ways around the meter, and the bytes that are counted.

use super::*;

#[test]
fn sockets_that_would_escape_the_meter_are_refused() {
    let edge = Edge::new();
    let outcome = edge.python(
        "say(*[attempt(lambda: socket.socket(*kind)) for kind in (\
         (socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_INET6, socket.SOCK_RAW, 58), \
         (socket.AF_INET, socket.SOCK_STREAM, 262), (socket.AF_INET6, socket.SOCK_STREAM, 262), \
         (socket.AF_INET, socket.SOCK_STREAM, 132))])",
    );
    assert_eq!(outcome, ["EPROTONOSUPPORT"; 5].join(" "));
    // SCTP is refused by the kernel itself where it has no such protocol.
    let refused = edge.counters().of(Reason::RefusedSocket);
    assert!(refused == 4 || refused == 5, "{refused}");
}

#[test]
fn a_multipath_socket_handed_in_is_refused_at_its_connect() {
    let edge = Edge::new();
    let outside = scratch_cgroup("outside");
    let outcome = python_in(
        &outside,
        &format!(
            "s = socket.socket(proto=262)\nopen('{}/cgroup.procs', 'w').write(str(os.getpid()))\n\
             say(attempt(lambda: s.connect(('198.51.100.7', 443))))",
            edge.cgroup.display()
        ),
    );
    println!("an MPTCP socket handed in: {outcome}");
    if outcome == "ok" {
        // The kernel's own subflow is plain TCP, and was redirected like any other.
        assert!(edge.accept().flow.is_some());
    } else {
        edge.assert_counted(Reason::RefusedSocket, 1);
    }
    remove_cgroup(&outside);
}

#[test]
fn quic_is_refused_connected_or_not_and_udp_connects_are_not() {
    let edge = Edge::new();
    let outcome = edge.python(
        "u = socket.socket(type=socket.SOCK_DGRAM); v = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n\
         c = socket.socket(type=socket.SOCK_DGRAM); o = socket.socket(type=socket.SOCK_DGRAM)\n\
         say(attempt(lambda: u.sendto(b'x', ('198.51.100.7', 443))), \
         attempt(lambda: v.sendto(b'x', ('::1', 443))), \
         attempt(lambda: v.sendto(b'x', ('::ffff:198.51.100.7', 443))), \
         attempt(lambda: c.connect(('127.0.0.1', 443))), attempt(lambda: c.send(b'x')), \
         attempt(lambda: o.sendto(b'x', ('127.0.0.1', 4433))))",
    );
    assert_eq!(outcome, "ECONNREFUSED ECONNREFUSED ECONNREFUSED ok EPERM ok");
    edge.assert_counted(Reason::RefusedQuic, 3);
    edge.assert_counted(Reason::DroppedQuic, 1);
}

#[test]
fn bytes_are_counted_once_at_the_agents_end() {
    let edge = Edge::new();
    let mut client = edge.spawn_python(
        "s = dial('198.51.100.7', 443)\ns.sendall(b'x' * 1000000)\nsay(len(s.recv(7, socket.MSG_WAITALL)))",
    );
    let mut stream = edge.accept().stream;
    stream.read_exact(&mut vec![0; 1_000_000]).unwrap();
    stream.write_all(b"answer!").unwrap();
    assert_eq!(line(&mut client), "7");
    finish(client);
    let counters = edge.counters();
    assert!((1_000_000..1_100_000).contains(&counters.egress_bytes), "{counters:?}");
    assert!((7..20_000).contains(&counters.ingress_bytes), "{counters:?}");
}
