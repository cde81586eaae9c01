//! AWS event streams, as a service writes them: headers and a payload in a frame with two checksums
//! (<https://smithy.io/2.0/aws/amazon-eventstream.html>).

/// The type of a header whose value is text.
const TEXT: u8 = 7;
/// Both lengths and the prelude's checksum before the headers, and the frame's checksum at the end.
const AROUND: usize = 16;

/// An event with a JSON payload.
pub fn event(kind: &str, payload: &str) -> Vec<u8> {
    frame(&[(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")], payload)
}

fn frame(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
    let mut named = Vec::new();
    for (name, value) in headers {
        named.push(u8::try_from(name.len()).expect("names are short"));
        named.extend_from_slice(name.as_bytes());
        named.push(TEXT);
        named.extend_from_slice(&u16::try_from(value.len()).expect("values are short").to_be_bytes());
        named.extend_from_slice(value.as_bytes());
    }
    let mut frame = length(AROUND + named.len() + payload.len()).to_vec();
    frame.extend_from_slice(&length(named.len()));
    seal(&mut frame);
    frame.extend_from_slice(&named);
    frame.extend_from_slice(payload.as_bytes());
    seal(&mut frame);
    frame
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("an event is far smaller").to_be_bytes()
}

/// Appends the checksum of everything so far.
fn seal(frame: &mut Vec<u8>) {
    let sum = crc32fast::hash(frame);
    frame.extend_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_frame_is_the_one_of_the_documentation() {
        let want = [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(frame(&[], ""), want);
    }
}
