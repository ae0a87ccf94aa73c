//! The guest's memory as WASI calls see it: every pointer is checked, every count has a bound.

use super::codes::{Errno, Fault};

/// The most pieces of one read or write.
const IOVECS_MAX: u32 = 1024;
/// The longest path, in bytes.
const PATH_MAX: u32 = 4096;
/// Bytes of an `iovec`: a pointer and a length.
const IOVEC: u32 = 8;

/// All of a guest's memory.
pub(super) struct Guest<'a>(pub(super) &'a mut [u8]);

impl Guest<'_> {
    pub(super) fn bytes(&self, at: u32, length: u32) -> Result<&[u8], Fault> {
        // Both are 32-bit numbers: the sum fits.
        let range = at as usize..at as usize + length as usize;
        self.0.get(range).ok_or(Fault::Errno(Errno::Fault))
    }

    pub(super) fn bytes_mut(&mut self, at: u32, length: u32) -> Result<&mut [u8], Fault> {
        let range = at as usize..at as usize + length as usize;
        self.0.get_mut(range).ok_or(Fault::Errno(Errno::Fault))
    }

    fn array<const N: usize>(&self, at: u32) -> Result<[u8; N], Fault> {
        self.bytes(at, N as u32)?.try_into().map_err(|_| Fault::Errno(Errno::Fault))
    }

    pub(super) fn u8(&self, at: u32) -> Result<u8, Fault> {
        Ok(u8::from_le_bytes(self.array(at)?))
    }

    pub(super) fn u16(&self, at: u32) -> Result<u16, Fault> {
        Ok(u16::from_le_bytes(self.array(at)?))
    }

    pub(super) fn u32(&self, at: u32) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    pub(super) fn u64(&self, at: u32) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array(at)?))
    }

    pub(super) fn put(&mut self, at: u32, bytes: &[u8]) -> Result<(), Fault> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::Fault)?;
        self.bytes_mut(at, length)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn put_u32(&mut self, at: u32, value: u32) -> Result<(), Fault> {
        self.put(at, &value.to_le_bytes())
    }

    pub(super) fn put_u64(&mut self, at: u32, value: u64) -> Result<(), Fault> {
        self.put(at, &value.to_le_bytes())
    }

    /// The pieces of a read or write: address and length of each. Their lengths together fit into 32 bits.
    pub(super) fn iovecs(&self, at: u32, count: u32) -> Result<Vec<(u32, u32)>, Fault> {
        if count > IOVECS_MAX {
            return Err(Errno::Inval.into());
        }
        let mut iovecs = Vec::with_capacity(count as usize);
        let mut total = 0_u32;
        for piece in self.bytes(at, count * IOVEC)?.as_chunks::<{ IOVEC as usize }>().0 {
            let [a0, a1, a2, a3, l0, l1, l2, l3] = *piece;
            let length = u32::from_le_bytes([l0, l1, l2, l3]);
            total = total.checked_add(length).ok_or(Errno::Inval)?;
            iovecs.push((u32::from_le_bytes([a0, a1, a2, a3]), length));
        }
        Ok(iovecs)
    }

    pub(super) fn path(&self, at: u32, length: u32) -> Result<&str, Fault> {
        if length > PATH_MAX {
            return Err(Errno::NameTooLong.into());
        }
        std::str::from_utf8(self.bytes(at, length)?).map_err(|_| Errno::IlSeq.into())
    }

    /// The count of `strings`, and how many bytes they take with a zero after each.
    pub(super) fn put_sizes(&mut self, strings: &[String], count_at: u32, bytes_at: u32) -> Result<(), Fault> {
        let bytes: usize = strings.iter().map(|text| text.len() + 1).sum();
        self.put_u32(count_at, strings.len() as u32)?;
        self.put_u32(bytes_at, u32::try_from(bytes).map_err(|_| Errno::Fault)?)
    }

    /// A pointer to each of `strings` from `pointers` on, and their bytes, each with a zero after it, from `bytes` on.
    pub(super) fn put_strings(&mut self, strings: &[String], mut pointers: u32, mut bytes: u32) -> Result<(), Fault> {
        for text in strings {
            self.put_u32(pointers, bytes)?;
            self.put(bytes, text.as_bytes())?;
            // What was just written lies within memory: these sums fit, or the next write is refused.
            bytes = bytes.wrapping_add(text.len() as u32);
            self.put(bytes, &[0])?;
            bytes = bytes.wrapping_add(1);
            pointers = pointers.wrapping_add(4);
        }
        Ok(())
    }
}
