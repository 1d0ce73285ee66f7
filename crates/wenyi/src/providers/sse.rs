//! Server-sent events: the `data` of each, comments such as `: keep-alive` passed over.

use std::io::{self, BufRead, BufReader, Read};

/// The data of each event.
pub(super) struct Events<R> {
    reader: BufReader<R>,
    pub(super) received: u64,
}

impl<R: Read> Events<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader: BufReader::new(reader),
            received: 0,
        }
    }

    /// The next event's data; `None` at the end. An event that the end cuts is given as it is.
    pub(super) fn next(&mut self) -> io::Result<Option<String>> {
        let mut data: Option<String> = None;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = self.reader.read_until(b'\n', &mut line)?;
            self.received += read as u64;
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            if read == 0 || (text.is_empty() && data.is_some()) {
                return Ok(data);
            }
            if let Some(more) = text.strip_prefix("data:") {
                let more = more.strip_prefix(' ').unwrap_or(more);
                data = Some(match data {
                    Some(before) => format!("{before}\n{more}"),
                    None => more.to_owned(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_from_comments() {
        let stream = ": keep-alive\n\ndata: {\"a\":1}\r\n\r\nevent: x\nid: 1\ndata:一\ndata: 二\n\n\n\
                      : keep-alive\n\ndata: [DONE]";
        let mut events = Events::new(stream.as_bytes());
        let mut all = Vec::new();
        while let Some(data) = events.next().unwrap() {
            all.push(data);
        }
        assert_eq!(all, ["{\"a\":1}", "一\n二", "[DONE]"]);
    }
}
