//! As much BER as a scripted `SNMPv2c` agent needs, written apart from the library under test.

/// What an agent must know of a request.
pub(super) struct Request {
    pub(super) id: Vec<u8>,
    pub(super) is_bulk: bool,
    pub(super) repetitions: usize,
    pub(super) oids: Vec<Vec<u32>>,
}

/// Tag, content and rest of the first element.
fn split(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let (start, length) = match bytes[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(bytes[2])),
        _ => (4, usize::from(bytes[2]) << 8 | usize::from(bytes[3])),
    };
    (
        bytes[0],
        &bytes[start..start + length],
        &bytes[start + length..],
    )
}

/// Reads a request that the poller sent: it is well-formed, or the test fails.
pub(super) fn request(datagram: &[u8]) -> Request {
    let (_, message, _) = split(datagram);
    let (_, _version, message) = split(message);
    let (_, _community, message) = split(message);
    let (tag, pdu, _) = split(message);
    let (_, id, pdu) = split(pdu);
    let (_, _, pdu) = split(pdu);
    let (_, repetitions, pdu) = split(pdu);
    let (_, mut list, _) = split(pdu);
    let mut oids = Vec::new();
    while !list.is_empty() {
        let (_, varbind, rest) = split(list);
        let (_, oid, _) = split(varbind);
        oids.push(decode_oid(oid));
        list = rest;
    }
    Request {
        id: id.to_vec(),
        is_bulk: tag == 0xa5,
        repetitions: usize::from(*repetitions.last().unwrap()),
        oids,
    }
}

fn decode_oid(bytes: &[u8]) -> Vec<u32> {
    let mut oid = vec![u32::from(bytes[0] / 40), u32::from(bytes[0] % 40)];
    let mut arc = 0;
    for byte in &bytes[1..] {
        arc = arc << 7 | u32::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            oid.push(arc);
            arc = 0;
        }
    }
    oid
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82, length[0], length[1]], content].concat()
}

fn encode_oid(oid: &[u32]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(oid[0] * 40 + oid[1]).unwrap()];
    for arc in &oid[2..] {
        for shift in [28, 21, 14, 7] {
            if arc >> shift != 0 {
                bytes.push(u8::try_from(arc >> shift & 0x7f).unwrap() | 0x80);
            }
        }
        bytes.push(u8::try_from(arc & 0x7f).unwrap());
    }
    bytes
}

/// A response with the number 7 as the value of every object.
pub(super) fn response(id: &[u8], community: &str, status: u8, oids: &[Vec<u32>]) -> Vec<u8> {
    let list: Vec<u8> = oids
        .iter()
        .flat_map(|oid| {
            let name = element(0x06, &encode_oid(oid));
            element(0x30, &[name, element(0x42, &[7])].concat())
        })
        .collect();
    let pdu = [
        element(0x02, id),
        element(0x02, &[status]),
        element(0x02, &[0]),
        element(0x30, &list),
    ]
    .concat();
    let message = [
        element(0x02, &[1]),
        element(0x04, community.as_bytes()),
        element(0xa2, &pdu),
    ]
    .concat();
    element(0x30, &message)
}
