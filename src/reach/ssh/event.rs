//! What a transaction says while it runs, read as it arrives: lines, and counted bytes where a text follows.

/// One word of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The unit was started by this connection.
    Started,
    /// The transaction had been started before.
    Attached,
    /// Somebody else's transaction holds the host: the lines of its holder file.
    Locked(String),
    /// It could not be started; nothing was changed.
    Refused(String),
    /// The host puts everything back after so many seconds, unless it is told that the change stays.
    Armed(usize),
    Begun(usize),
    Done(usize),
    Failed {
        position: usize,
        status: i32,
        output: String,
    },
    /// The transaction's own last word.
    End(String),
    /// Its events are gone with a reboot; this is the host's durable journal.
    Journal(String),
    /// The unit has ended and nothing more will come.
    Gone,
}

/// Cuts a stream into frames. `offset` counts the bytes of complete event frames, to go on from there later.
#[derive(Debug, Default)]
pub struct Frames {
    waiting: Vec<u8>,
    pub offset: u64,
}

impl Frames {
    /// A stream that goes on after `offset` bytes of events.
    pub fn from(offset: u64) -> Self {
        Self { waiting: Vec::new(), offset }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next complete frame, or `None` until more arrives.
    ///
    /// # Errors
    /// The line that is not one of ours.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, String> {
        let Some(end) = self.waiting.iter().position(|&byte| byte == b'\n') else {
            return Ok(None);
        };
        let line = String::from_utf8_lossy(&self.waiting[..end]).into_owned();
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse::<usize>().map_err(|_| line.clone());
        let text_length = match words.as_slice() {
            ["locked" | "error" | "journal" | "unarmed", length] | ["failed", _, _, length] => number(length)?,
            _ => 0,
        };
        let whole = end + 1 + text_length;
        if self.waiting.len() < whole {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&self.waiting[end + 1..whole]).into_owned();
        let (frame, is_event) = match words.as_slice() {
            ["started"] => (Frame::Started, false),
            ["attached"] => (Frame::Attached, false),
            ["locked", _] => (Frame::Locked(text), false),
            ["error", _] => (Frame::Refused(text), false),
            ["journal", _] => (Frame::Journal(text), false),
            ["gone"] => (Frame::Gone, false),
            // An empty line ends a text that was counted.
            [""] => {
                self.waiting.drain(..whole);
                return self.next_frame();
            }
            ["unarmed", _] => (Frame::Refused(text), true),
            ["armed", seconds] => (Frame::Armed(number(seconds)?), true),
            ["begin", position] => (Frame::Begun(number(position)?), true),
            ["done", position] => (Frame::Done(number(position)?), true),
            ["failed", position, status, _] => (
                Frame::Failed {
                    position: number(position)?,
                    status: status.parse().map_err(|_| line.clone())?,
                    output: text,
                },
                true,
            ),
            ["end", verdict] => (Frame::End((*verdict).to_owned()), true),
            _ => return Err(line),
        };
        self.waiting.drain(..whole);
        if is_event {
            self.offset += whole as u64;
        }
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_of_the_stream_reads_the_same() {
        let events = b"begin 0\ndone 0\nbegin 1\nfailed 1 73 9\nend ok\n\nxend failed\n";
        let stream = [b"attached\n".as_slice(), events, b"gone\n"].concat();
        for cut in 0..stream.len() {
            let mut frames = Frames::default();
            let mut read = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                frames.push(part);
                while let Some(frame) = frames.next_frame().expect("ours") {
                    read.push(frame);
                }
            }
            assert_eq!(read.len(), 7, "{read:?}");
            let output = "end ok\n\nx".to_owned();
            assert_eq!(read[4], Frame::Failed { position: 1, status: 73, output });
            assert_eq!(frames.offset, events.len() as u64);
        }
    }

    #[test]
    fn what_is_not_ours_is_an_error() {
        for strange in ["Welcome to Debian\n", "begin x\n", "failed 1 x 0\n", "locked -1\n"] {
            let mut frames = Frames::default();
            frames.push(strange.as_bytes());
            assert!(frames.next_frame().is_err(), "{strange}");
        }
    }
}
