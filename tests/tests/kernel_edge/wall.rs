//! What the kernel refuses and drops, and what is still let through.

use super::*;

const DIAL: &str = "say(attempt(lambda: dial('198.51.100.7', 443)))";

#[test]
fn nothing_left_anywhere_on_the_path_refuses_the_connect_and_is_counted() {
    let edge = Edge::new();
    for (count, slot) in [(1, TASK.slot), (2, AGENT.slot), (3, HOST_SLOT)] {
        edge.publish(slot, |record| record.remaining = 0);
        assert_eq!(edge.python(DIAL), "ECONNREFUSED");
        edge.assert_counted(Reason::RefusedSpent, count);
        edge.publish(slot, |record| record.remaining = 1);
    }
    assert_eq!(edge.python(DIAL), "ok");
    edge.assert_counted(Reason::Redirected, 1);
}

#[test]
fn every_state_but_open_refuses_the_connect() {
    let edge = Edge::new();
    for state in [state::DRAINING, state::STOPPED] {
        edge.set_state(AGENT.slot, state);
        assert_eq!(edge.python(DIAL), "ECONNREFUSED");
    }
    edge.assert_counted(Reason::RefusedSpent, 2);
    for state in [state::REVOKED, state::CLOSED] {
        edge.set_state(AGENT.slot, state);
        assert_eq!(edge.python(DIAL), "ECONNREFUSED");
    }
    edge.assert_counted(Reason::RefusedRevoked, 2);
    edge.set_state(AGENT.slot, state::FREE);
    assert_eq!(edge.python(DIAL), "ECONNREFUSED");
    assert_eq!(edge.kernel.counters(HOST_SLOT).unwrap().of(Reason::RefusedStale), 1);
    edge.assert_nothing_accepted();
}

#[test]
fn a_wall_of_requests_lets_connects_pass() {
    let edge = Edge::new();
    edge.publish(TASK.slot, |record| {
        record.remaining = -5;
        record.flags = flag::WALL_REQUESTS;
    });
    assert_eq!(edge.python(DIAL), "ok");
}

#[test]
fn a_slot_that_changed_hands_refuses_its_old_references() {
    let edge = Edge::new();
    edge.publish(TASK.slot, |record| record.generation = TASK.generation + 1);
    assert_eq!(edge.python(DIAL), "ECONNREFUSED");
    assert_eq!(edge.kernel.counters(HOST_SLOT).unwrap().of(Reason::RefusedStale), 1);
}

#[test]
fn a_path_that_does_not_end_at_the_host_is_refused() {
    let edge = Edge::new();
    edge.publish(AGENT.slot, |record| record.parent = TASK.slot);
    assert_eq!(edge.python(DIAL), "ECONNREFUSED");
    assert_eq!(edge.kernel.counters(HOST_SLOT).unwrap().of(Reason::RefusedStale), 1);
}

#[test]
fn a_refusal_is_told_with_who_and_where() {
    let edge = Edge::new();
    let mut ring = edge.kernel.events().unwrap();
    edge.publish(TASK.slot, |record| record.remaining = 0);
    let mut client = edge.spawn_python(&format!("{DIAL}\nwait()"));
    assert_eq!(line(&mut client), "ECONNREFUSED");
    let told = ring.try_next().expect("the refusal is on the ring");
    assert_eq!((told.account, told.reason, told.pid), (TASK, Reason::RefusedSpent, client.id()));
    assert_eq!(told.destination, format!("{ELSEWHERE}:443").parse().unwrap());
    assert_eq!(told.comm, "python3");
    assert_eq!(ring.try_next(), None);
    go_on(&mut client);
    finish(client);
}

#[test]
fn packets_of_a_stopped_account_drop_and_of_a_spent_or_draining_one_do_not() {
    let edge = Edge::new();
    let mut client =
        edge.spawn_python("s = dial('198.51.100.7', 443)\nsay('up')\nwhile True: wait(); s.send(b'x'); say('sent')");
    line(&mut client);
    let mut stream = edge.accept().stream;
    let mut send = |edge: &Edge| {
        go_on(&mut client);
        assert_eq!(line(&mut client), "sent");
        edge.counters().of(Reason::DroppedState)
    };
    let mut byte = [0];
    edge.publish(TASK.slot, |record| record.remaining = 0);
    assert_eq!(send(&edge), 0);
    stream.read_exact(&mut byte).unwrap();
    edge.set_state(TASK.slot, state::DRAINING);
    assert_eq!(send(&edge), 0);
    stream.read_exact(&mut byte).unwrap();
    for state in [state::STOPPED, state::REVOKED, state::CLOSED] {
        edge.set_state(TASK.slot, state);
        let dropped = send(&edge);
        assert!(dropped > 0);
        stream.set_nonblocking(true).unwrap();
        assert_eq!(stream.read(&mut byte).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
    }
    // TCP sends again what was dropped, so opening the account loses nothing.
    edge.set_state(TASK.slot, state::OPEN);
    let mut rest = [0; 3];
    stream.read_exact(&mut rest).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn dns_passes_for_a_stopped_account_and_not_for_a_revoked_one() {
    let edge = Edge::new();
    let server = std::net::UdpSocket::bind("127.0.0.1:53").or_else(|_| std::net::UdpSocket::bind("127.0.0.53:53"));
    let server = server.expect("a resolver's address is free");
    let to = server.local_addr().unwrap().ip();
    let script = format!(
        "u = socket.socket(type=socket.SOCK_DGRAM)\n\
         c = socket.socket(type=socket.SOCK_DGRAM); c.connect(('{to}', 53))\n\
         say(attempt(lambda: u.sendto(b'q', ('{to}', 53))), attempt(lambda: c.send(b'q')), \
         attempt(lambda: u.sendto(b'q', ('{to}', 5353))))"
    );
    edge.set_state(TASK.slot, state::STOPPED);
    assert_eq!(edge.python(&script), "ok ok ECONNREFUSED");
    edge.assert_counted(Reason::DnsPassed, 2);
    edge.assert_counted(Reason::RefusedDatagram, 1);
    let mut query = [0; 1];
    assert_eq!(server.recv(&mut query).unwrap() + server.recv(&mut query).unwrap(), 2);
    edge.set_state(TASK.slot, state::REVOKED);
    assert_eq!(edge.python(&script), "ECONNREFUSED EPERM ECONNREFUSED");
    edge.assert_counted(Reason::RefusedDatagram, 3);
    edge.assert_counted(Reason::DroppedState, 1);
    edge.publish(TASK.slot, |record| record.remaining = 0);
    assert_eq!(edge.python(&script), "ok ok ECONNREFUSED");
    edge.assert_counted(Reason::DnsPassed, 3);
}

#[test]
fn sockets_of_an_account_are_ended_and_others_are_not() {
    let edge = Edge::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let script = format!(
        "d = dial('127.0.0.1', {port}); r = dial('198.51.100.7', 443); u = socket.socket(type=socket.SOCK_DGRAM)\n\
         u.bind(('127.0.0.1', 0))\nsay('up')\nwait()\n\
         say(attempt(lambda: d.recv(1)), attempt(lambda: u.recv(1)), attempt(lambda: r.send(b'x')))"
    );
    let mut client = edge.spawn_python(&script);
    line(&mut client);
    let held = edge.accept();
    let (mut other_end, _) = server.accept().unwrap();
    let outside = scratch_cgroup("outside");
    let mut bystander = harness::spawn_python(
        &outside,
        &format!("d = dial('127.0.0.1', {port})\nsay('up')\nwait()\nsay(attempt(lambda: d.send(b'x')))"),
    );
    line(&mut bystander);
    let cgroups = HashSet::from([cgroup::id(&edge.cgroup).unwrap()]);
    assert_eq!(sockets::end(&cgroups, &edge.listeners.ports).unwrap(), 2);
    assert_eq!(other_end.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    go_on(&mut client);
    assert_eq!(finish(client), "ECONNABORTED ECONNABORTED ok");
    go_on(&mut bystander);
    assert_eq!(finish(bystander), "ok");
    drop(held);
    remove_cgroup(&outside);
}
