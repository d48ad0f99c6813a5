//! Makes checksums of the journal's files right, so that a fuzzer gets past them. The form is described in
//! `journal/src/frame.rs`.

use crc32fast::Hasher;

const HEADER_COPY_LEN: usize = 64;
const FRAMES_AT: usize = 2 * HEADER_COPY_LEN;
const FRAME_LEN: usize = 16;
/// The length in the second word of a frame; the kind stands above it.
const LENGTH_MASK: u32 = (1 << 28) - 1;
const KIND_RECORD: u32 = 1;
const KIND_INCARNATION: u32 = 2;
const KIND_FOOTER: u32 = 3;
const TRAILER_LEN: usize = 8;

/// Gives bytes the form of a file of the journal: version, checksums of the header and of one frame after the other.
/// Lengths, kinds, indices and ages stay as they are, whatever they are; a length that leads beyond the end is cut.
/// `number` is the segment's, as in its name.
pub fn repair(bytes: &mut [u8], number: u64) {
    let Some((head, frames)) = bytes.split_at_mut_checked(FRAMES_AT) else {
        return;
    };
    let (copy, second) = head.split_at_mut(HEADER_COPY_LEN);
    copy[..4].copy_from_slice(b"\x01xjl");
    copy[16..24].copy_from_slice(&number.to_le_bytes());
    let crc = crc(&[&copy[..4], &copy[8..]], 0);
    copy[4..8].copy_from_slice(&crc.to_le_bytes());
    second.copy_from_slice(copy);
    let salt: [u8; 8] = array(&copy[8..]);
    let incarnation: [u8; 8] = array(&copy[32..]);
    repair_frames(frames, salt, incarnation);
}

fn repair_frames(frames: &mut [u8], salt: [u8; 8], mut incarnation: [u8; 8]) {
    let mut at = 0;
    while let Some(behind_head) = frames.len().checked_sub(at + FRAME_LEN) {
        let frame = &mut frames[at..];
        let word = u32::from_le_bytes(array(&frame[4..]));
        let kind = word >> LENGTH_MASK.count_ones();
        let trailer = if kind == KIND_FOOTER { TRAILER_LEN } else { 0 };
        let most = behind_head.saturating_sub(trailer);
        let len = ((word & LENGTH_MASK) as usize).min(most);
        let length = u32::try_from(len).expect("was 28 bits long");
        frame[4..8].copy_from_slice(&(word & !LENGTH_MASK | length).to_le_bytes());
        let end = FRAME_LEN + len;
        let seed = match kind {
            KIND_RECORD => crc(&[&salt, &incarnation], 0),
            _ => crc(&[&salt, &[0; 8]], 0),
        };
        let crc = crc(&[&frame[4..end]], seed);
        frame[..4].copy_from_slice(&crc.to_le_bytes());
        if kind == KIND_INCARNATION && len == 8 {
            incarnation = array(&frame[FRAME_LEN..]);
        }
        if kind == KIND_FOOTER && behind_head == len + TRAILER_LEN {
            let footer_at = (FRAMES_AT + at) as u64;
            frame[end..].copy_from_slice(&footer_at.to_le_bytes());
        }
        at += end;
    }
}

fn crc(parts: &[&[u8]], seed: u32) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}
