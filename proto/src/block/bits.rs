//! Streams of bits, lowest bit first.

use crate::varint::{Malformed, low_byte};

/// Appends bits to bytes.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    pending_bits: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            pending: 0,
            pending_bits: 0,
        }
    }

    /// Appends the lowest `width` bits (at most 64).
    pub(super) fn put(&mut self, bits: u64, width: u32) {
        if width > 32 {
            self.put_few(bits & 0xffff_ffff, 32);
            self.put_few(bits >> 32, width - 32);
        } else {
            self.put_few(bits, width);
        }
    }

    fn put_few(&mut self, bits: u64, width: u32) {
        let mask = (1_u64 << width) - 1;
        self.pending |= (bits & mask) << self.pending_bits;
        self.pending_bits += width;
        while self.pending_bits >= 8 {
            self.out.push(low_byte(self.pending));
            self.pending >>= 8;
            self.pending_bits -= 8;
        }
    }

    /// Fills the last byte with zeros.
    pub(super) fn finish(self) {
        if self.pending_bits > 0 {
            self.out.push(low_byte(self.pending));
        }
    }
}

/// Reads bits from bytes.
pub(super) struct BitReader<'a> {
    all: &'a [u8],
    rest: &'a [u8],
    /// Bits taken from `rest` but not handed out yet; above `ready_bits` there may be copies of bits still in `rest`.
    ready: u64,
    ready_bits: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            all: bytes,
            rest: bytes,
            ready: 0,
            ready_bits: 0,
        }
    }

    /// Takes whole bytes until at least 56 bits are ready or the input is used up.
    fn refill(&mut self) {
        if self.ready_bits > 56 {
            return;
        }
        if let Some(word) = self.rest.first_chunk::<8>() {
            self.ready |= u64::from_le_bytes(*word) << self.ready_bits;
            let taken = (63 - self.ready_bits) / 8;
            self.rest = &self.rest[taken as usize..];
            self.ready_bits += taken * 8;
            return;
        }
        while self.ready_bits <= 56
            && let Some((&byte, rest)) = self.rest.split_first()
        {
            self.ready |= u64::from(byte) << self.ready_bits;
            self.ready_bits += 8;
            self.rest = rest;
        }
    }

    /// The next `width` bits (at most 64).
    pub(super) fn take(&mut self, width: u32) -> Result<u64, Malformed> {
        if width > 32 {
            let low = self.take_few(32)?;
            return Ok(low | self.take_few(width - 32)? << 32);
        }
        self.take_few(width)
    }

    fn take_few(&mut self, width: u32) -> Result<u64, Malformed> {
        if self.ready_bits < width {
            self.refill();
            if self.ready_bits < width {
                return Err(Malformed);
            }
        }
        let bits = self.ready & ((1_u64 << width) - 1);
        self.skip(width);
        Ok(bits)
    }

    fn skip(&mut self, width: u32) {
        self.ready >>= width;
        self.ready_bits -= width;
    }

    /// Counts ones up to the next zero, which is taken too; `limit` ones (below 56) end without a zero.
    pub(super) fn take_ones(&mut self, limit: u32) -> Result<u32, Malformed> {
        self.refill();
        let ones = self.ready.trailing_ones().min(limit);
        let width = if ones == limit { limit } else { ones + 1 };
        if self.ready_bits < width {
            return Err(Malformed);
        }
        self.skip(width);
        Ok(ones)
    }

    /// How many bytes the bits read so far occupy.
    pub(super) fn bytes_used(&self) -> usize {
        self.all.len() - self.rest.len() - (self.ready_bits / 8) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_round_trip(parts in prop::collection::vec((any::<u64>(), 0_u32..=64), 0..60), behind: u8) {
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            for (bits, width) in &parts {
                writer.put(*bits, *width);
            }
            writer.finish();
            let len = bytes.len();
            bytes.resize(len + 9, behind);
            let mut reader = BitReader::new(&bytes);
            for (bits, width) in &parts {
                let mask = if *width == 64 { u64::MAX } else { (1 << width) - 1 };
                prop_assert_eq!(reader.take(*width), Ok(bits & mask));
            }
            prop_assert_eq!(reader.bytes_used(), len);
        }
    }

    #[test]
    fn ones_are_counted_up_to_the_limit_and_the_end() {
        let mut reader = BitReader::new(&[0b0000_1011, 0xff, 0xff]);
        assert_eq!(reader.take_ones(24), Ok(2));
        assert_eq!(reader.take_ones(24), Ok(1));
        assert_eq!(reader.take(3), Ok(0));
        assert_eq!(reader.take_ones(10), Ok(10));
        assert_eq!(reader.take_ones(10), Err(Malformed), "six ones and no end");
    }
}
