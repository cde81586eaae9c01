//! A name server just large enough for a stub resolver: A and AAAA from a table (RFC 1035 section 4).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use tokio::net::UdpSocket;

use super::log::{Entry, Log, Question, now_ms};

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const HEADER: usize = 12;
/// Seconds that an answer may be kept: none, so that every look-up is seen.
const TTL: u32 = 0;

pub async fn serve(socket: UdpSocket, table: Arc<BTreeMap<String, Vec<IpAddr>>>, log: Arc<Log>) {
    let mut buffer = [0; 1500];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        if let Some((reply, question)) = reply(&buffer[..length], &table) {
            log.write(&Entry::Question(question));
            let _ = socket.send_to(&reply, peer).await;
        }
    }
}

/// The reply to one datagram; nothing for what is not a question.
fn reply(datagram: &[u8], table: &BTreeMap<String, Vec<IpAddr>>) -> Option<(Vec<u8>, Question)> {
    let header = datagram.get(..HEADER)?;
    let (name, end) = read_name(datagram, HEADER)?;
    let record_type = u16::from_be_bytes(datagram.get(end..end + 2)?.try_into().ok()?);
    let question = datagram.get(HEADER..end + 4)?;
    let addresses = table.get(&name.to_ascii_lowercase());
    let records: Vec<Vec<u8>> = addresses.into_iter().flatten().filter_map(|a| rdata(*a, record_type)).collect();

    let name_error = if addresses.is_none() { 3 } else { 0 };
    let mut reply = Vec::with_capacity(512);
    reply.extend_from_slice(&header[..2]);
    // An answer with the authority's word, recursion as asked and offered.
    reply.extend_from_slice(&[0x84 | (header[2] & 1), 0x80 | name_error]);
    reply.extend_from_slice(&1_u16.to_be_bytes());
    reply.extend_from_slice(&u16::try_from(records.len()).ok()?.to_be_bytes());
    reply.extend_from_slice(&[0; 4]);
    reply.extend_from_slice(question);
    for rdata in &records {
        // A pointer to the question's name, its type, class IN.
        reply.extend_from_slice(&[0xc0, 0x0c]);
        reply.extend_from_slice(&record_type.to_be_bytes());
        reply.extend_from_slice(&[0, 1]);
        reply.extend_from_slice(&TTL.to_be_bytes());
        reply.extend_from_slice(&u16::try_from(rdata.len()).ok()?.to_be_bytes());
        reply.extend_from_slice(rdata);
    }
    Some((reply, Question { time_ms: now_ms(), name, record_type, answers: records.len() }))
}

fn rdata(address: IpAddr, record_type: u16) -> Option<Vec<u8>> {
    match (address, record_type) {
        (IpAddr::V4(v4), TYPE_A) => Some(v4.octets().to_vec()),
        (IpAddr::V6(v6), TYPE_AAAA) => Some(v6.octets().to_vec()),
        (IpAddr::V4(_) | IpAddr::V6(_), _) => None,
    }
}

/// A name as labels without compression, and where it ends.
fn read_name(datagram: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*datagram.get(at)?);
        at += 1;
        match length {
            0 => return Some((labels.join("."), at)),
            1..=63 => labels.push(std::str::from_utf8(datagram.get(at..at + length)?).ok()?.to_owned()),
            _ => return None,
        }
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_and_a_torn_one_is_not() {
        let table =
            BTreeMap::from([("api.test".to_owned(), vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()])]);
        let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03api\x04TEST\x00\x00\x1c\x00\x01";
        let (reply, asked) = super::reply(question, &table).unwrap();
        assert_eq!((asked.name.as_str(), asked.record_type, asked.answers), ("api.TEST", TYPE_AAAA, 1));
        assert_eq!(reply[..2], [0x12, 0x34]);
        assert_eq!(reply[3] & 0x0f, 0);
        assert!(reply.ends_with(&"fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets()));
        for short in 0..question.len() {
            assert!(super::reply(&question[..short], &table).is_none(), "{short}");
        }
    }
}
