//! gzip files of one member or several (RFC 1952), read as `zcat` reads them.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// The bytes of all members, one after the other, as bgzip, pigz and `cat a.gz b.gz` write them.
///
/// Zeros after the last member, with which tapes and some file systems fill a block, are passed over. At anything else
/// the reader ends, and [`trailing`](Self::trailing) says so.
pub(crate) struct Members<R> {
    /// None only while one member's decoder is changed for the next one's.
    member: Option<GzDecoder<R>>,
    trailing: bool,
}

impl<R: BufRead> Members<R> {
    pub(crate) fn new(compressed: R) -> Self {
        Self {
            member: Some(GzDecoder::new(compressed)),
            trailing: false,
        }
    }

    /// Whether the reader has ended at something that is neither gzip nor zeros.
    pub(crate) fn trailing(&self) -> bool {
        self.trailing
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.trailing {
            return Ok(0);
        }
        loop {
            let Some(member) = &mut self.member else {
                return Ok(0);
            };
            let read = member.read(out)?;
            if read > 0 {
                return Ok(read);
            }
            let mut rest = self
                .member
                .take()
                .expect("it was there a moment ago")
                .into_inner();
            let mut zeros_before = false;
            loop {
                let buffer = rest.fill_buf()?;
                match buffer.iter().position(|&byte| byte != 0) {
                    None if buffer.is_empty() => return Ok(0),
                    None => {
                        let zeros = buffer.len();
                        rest.consume(zeros);
                        zeros_before = true;
                    }
                    // The next member follows at once.
                    Some(0)
                        if !zeros_before
                            && buffer[0] == 0x1f
                            && buffer.get(1).is_none_or(|&b| b == 0x8b) =>
                    {
                        break;
                    }
                    Some(_) => {
                        self.trailing = true;
                        return Ok(0);
                    }
                }
            }
            self.member = Some(GzDecoder::new(rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn member(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<(Vec<u8>, bool)> {
        // A buffer of one byte: what belongs together may come apart.
        let mut members = Members::new(BufReader::with_capacity(1, bytes));
        let mut out = Vec::new();
        members.read_to_end(&mut out)?;
        Ok((out, members.trailing()))
    }

    #[test]
    fn members_are_read_one_after_the_other() {
        let one = member(b"one");
        let two = member(b"two");
        let empty = member(b"");
        assert_eq!(read(&one).unwrap(), (b"one".to_vec(), false));
        let both = [&one[..], &empty, &two, &empty].concat();
        assert_eq!(read(&both).unwrap(), (b"onetwo".to_vec(), false));
        let padded = [&both[..], &[0; 700]].concat();
        assert_eq!(read(&padded).unwrap(), (b"onetwo".to_vec(), false));
    }

    #[test]
    fn what_is_no_member_ends_the_reading_and_damage_is_an_error() {
        let one = member(b"one");
        let noise = [&one[..], b"noise"].concat();
        assert_eq!(read(&noise).unwrap(), (b"one".to_vec(), true));
        let gap = [&one[..], &[0], &one].concat();
        assert!(read(&gap).unwrap().1);
        let cut = [&one[..], &one[..one.len() - 3]].concat();
        assert!(read(&cut).is_err());
        let mut flipped = [&one[..], &one].concat();
        let last = flipped.len() - 6;
        flipped[last] ^= 1;
        assert!(read(&flipped).is_err());
    }
}
