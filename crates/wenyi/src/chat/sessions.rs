//! The conversations that a local model has read: a prompt is read from where what it shares with one
//! of them ends.

use std::sync::{Condvar, Mutex, PoisonError};

use wenyi_engine::decoder::{Decoder, Session};

/// Conversations whose keys and values are kept at a time; more of them wait for each other.
const SESSIONS: usize = 4;

/// A shorter common beginning is sooner read again than copied.
const WORTH_COPYING: usize = 16;

/// Conversations that were read, for the next turn of the same ones and for prompts that begin alike.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    kept: Mutex<Kept>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Kept {
    /// The longest unused first.
    free: Vec<Session>,
    made: usize,
}

impl Sessions {
    /// Works with a session that holds what is known of `prompt`; waits if all are in use.
    pub(super) fn with<T>(
        &self,
        decoder: &Decoder,
        prompt: &[u32],
        work: impl FnOnce(&mut Session) -> Result<T, wenyi_engine::Error>,
    ) -> Result<T, wenyi_engine::Error> {
        let mut lent = Lent {
            sessions: self,
            session: Some(self.take(decoder, prompt)?),
        };
        match &mut lent.session {
            Some(session) => work(session),
            None => unreachable!("the session is given back when `lent` is dropped"),
        }
    }

    fn take(&self, decoder: &Decoder, prompt: &[u32]) -> Result<Session, wenyi_engine::Error> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.free.is_empty() && kept.made >= SESSIONS {
            let waited = self.returned.wait(kept);
            kept = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let common = |session: &Session| {
            let pairs = session.ids().iter().zip(prompt);
            pairs.take_while(|(held, id)| held == id).count()
        };
        let best = kept.free.iter().map(common).enumerate();
        // Of equals the first, which was unused for longest.
        let best = best.rev().max_by_key(|(_, common)| *common);
        let (index, shared) = best.unwrap_or((0, 0));
        let held = kept.free.get(index).map(|session| session.ids().len());
        // A conversation that goes on, or one that differs in its last question alone.
        if held.is_some_and(|held| shared > 0 && 2 * shared >= held) {
            return Ok(kept.free.remove(index));
        }
        let is_new = kept.made < SESSIONS;
        let mut session = if is_new {
            decoder.session(decoder.context())?
        } else {
            kept.free.remove(0)
        };
        kept.made += usize::from(is_new);
        // One whose beginning alone is shared (the same system prompt, the same passages) gives a
        // copy of it, so that it can go on as well. If it was itself taken, it has it already.
        let from = if is_new {
            Some(index)
        } else {
            index.checked_sub(1)
        };
        if let Some(from) = from.and_then(|from| kept.free.get(from))
            && shared >= WORTH_COPYING
        {
            session.copy_beginning(from, shared);
        }
        Ok(session)
    }
}

/// A session that goes back when this is dropped, even if the work panics.
struct Lent<'a> {
    sessions: &'a Sessions,
    session: Option<Session>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let kept = self.sessions.kept.lock();
        let mut kept = kept.unwrap_or_else(PoisonError::into_inner);
        kept.free.extend(self.session.take());
        self.sessions.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::Path;

    use wenyi_engine::decoder::{DecoderOptions, GenerateOptions, Generation, SamplingOptions};

    use super::*;

    fn decoder() -> Decoder {
        let fixture = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../engine/tests/fixtures/decoders/llama"
        );
        let options = DecoderOptions {
            threads: Some(1),
            ..DecoderOptions::default()
        };
        Decoder::open(Path::new(fixture), &options).unwrap()
    }

    fn answer(sessions: &Sessions, decoder: &Decoder, prompt: &[u32]) -> Generation {
        let options = GenerateOptions {
            max_tokens: Some(4),
            sampling: SamplingOptions {
                temperature: 0.0,
                ..SamplingOptions::default()
            },
            ..GenerateOptions::default()
        };
        let mut on_piece = |_: &_| ControlFlow::Continue(());
        let work =
            |session: &mut Session| decoder.generate(session, prompt, &options, &mut on_piece);
        sessions.with(decoder, prompt, work).unwrap()
    }

    fn prompt(common: u32, own: std::ops::Range<u32>) -> Vec<u32> {
        (100..100 + common).chain(own).collect()
    }

    #[test]
    fn what_prompts_have_in_common_is_read_once() {
        let (decoder, sessions) = (decoder(), Sessions::default());
        let first = prompt(30, 300..370);
        assert_eq!(answer(&sessions, &decoder, &first).cached_tokens, 0);
        // The same passages and another question: the last token alone is always read.
        let second = prompt(30, 300..369);
        assert_eq!(answer(&sessions, &decoder, &second).cached_tokens, 98);
        // Instructions in common: a copy, and the first conversation goes on as if nothing had been.
        let third = prompt(30, 400..450);
        assert_eq!(answer(&sessions, &decoder, &third).cached_tokens, 30);
        let next = [&second[..], &[500, 501]].concat();
        assert!(answer(&sessions, &decoder, &next).cached_tokens >= 99);
        let next = [&third[..], &[500, 501]].concat();
        assert!(answer(&sessions, &decoder, &next).cached_tokens >= 80);
        // What comes of a copy is what would have come without.
        let alone = answer(&Sessions::default(), &decoder, &third);
        assert_eq!(answer(&sessions, &decoder, &third).ids, alone.ids);
    }

    #[test]
    fn more_conversations_than_sessions_push_out_the_oldest() {
        let (decoder, sessions) = (decoder(), Sessions::default());
        for conversation in 0..6 {
            let prompt = prompt(20, 200 + conversation * 50..240 + conversation * 50);
            let cached = answer(&sessions, &decoder, &prompt).cached_tokens;
            assert_eq!(cached, if conversation == 0 { 0 } else { 20 });
        }
        assert_eq!(sessions.kept.lock().unwrap().made, SESSIONS);
    }
}
