//! Work that nobody waits for any more: a call blocks its thread, so the thread that sends, waits
//! and pauses looks again and again whether it still should.
//!
//! What to look at belongs to the thread, not to the call: so it holds for whatever the work asks of
//! providers, through every trait, and for the threads that a call starts itself.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::time::Duration as Limit;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector,
    SocksConnector, TcpConnector, Transport,
};
use ureq::{Agent, Error};

/// Between two looks; nobody notices a call that ends this much later.
const LOOK: Duration = Duration::from_millis(50);

/// Says whether the work of a thread is still wanted.
pub(super) type Check = Arc<dyn Fn() -> bool + Send + Sync>;

thread_local! {
    static CHECK: RefCell<Option<Check>> = const { RefCell::new(None) };
}

/// Runs `work`; what it asks of providers ends within a moment with
/// [`ErrorKind::Cancelled`](super::ErrorKind::Cancelled) once `is_cancelled`, which is asked often,
/// says so. Only the search for the server's address and the first connection to it are waited for.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// let is_abandoned = Arc::new(AtomicBool::new(false));
/// let flag = is_abandoned.clone();
/// let length = wenyi::providers::cancellable(move || flag.load(Ordering::Relaxed), || "work".len());
/// assert_eq!(length, 4);
/// ```
pub fn cancellable<T>(
    is_cancelled: impl Fn() -> bool + Send + Sync + 'static,
    work: impl FnOnce() -> T,
) -> T {
    let check: Check = match current() {
        // What holds around this work holds for it too.
        Some(outer) => Arc::new(move || outer() || is_cancelled()),
        None => Arc::new(is_cancelled),
    };
    with_check(Some(check), work)
}

/// What this thread looks at, for threads that share its work.
pub(super) fn current() -> Option<Check> {
    CHECK.with_borrow(Clone::clone)
}

/// Runs `work` with the look of the thread that it came from.
pub(super) fn with_check<T>(check: Option<Check>, work: impl FnOnce() -> T) -> T {
    /// Puts back what was, also if the work panics.
    struct Restore(Option<Check>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CHECK.set(self.0.take());
        }
    }
    let _restore = Restore(CHECK.replace(check));
    work()
}

pub(super) fn is_cancelled() -> bool {
    current().is_some_and(|check| check())
}

/// Sleeps, unless and until the work is cancelled.
pub(super) fn sleep(time: Duration) {
    let Some(check) = current() else {
        return thread::sleep(time);
    };
    let started = Instant::now();
    while let Some(rest) = time.checked_sub(started.elapsed()).filter(|r| !r.is_zero()) {
        if check() {
            return;
        }
        thread::sleep(rest.min(LOOK));
    }
}

/// An agent whose connections look while they wait. The chain is `ureq`'s own, with one link more
/// under the encryption, so that its handshakes look as well.
pub(super) fn agent(config: Config) -> Agent {
    let connector = ().chain(SocksConnector::default());
    let connector = connector.chain(ConnectProxyConnector::default());
    let connector = connector.chain(TcpConnector::default()).chain(Looking);
    let connector = connector.chain(RustlsConnector::default());
    Agent::with_parts(config, connector, DefaultResolver::default())
}

/// Lets whatever was connected before it look.
#[derive(Debug)]
struct Looking;

impl<In: Transport> Connector<In> for Looking {
    type Out = LookingTransport<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(LookingTransport))
    }
}

/// Waits in short turns, with a look between them.
#[derive(Debug)]
struct LookingTransport<T>(T);

fn cancelled() -> Error {
    Error::Io(std::io::Error::other("cancelled"))
}

impl<T: Transport> Transport for LookingTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    /// Not in turns: what a write that timed out has sent is not known.
    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if is_cancelled() {
            return Err(cancelled());
        }
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let Some(check) = current() else {
            return self.0.await_input(timeout);
        };
        let limit = timeout.for_read();
        let started = Instant::now();
        loop {
            if check() {
                return Err(cancelled());
            }
            let rest = limit.after.saturating_sub(started.elapsed());
            let turn = NextTimeout {
                after: Limit::Exact(rest.min(LOOK)),
                per_read: None,
                ..limit
            };
            match self.0.await_input(turn) {
                Err(Error::Timeout(_)) if rest > LOOK => {}
                other => return other,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn work_within_work_ends_with_either() {
        assert!(!is_cancelled());
        cancellable(
            || true,
            || {
                assert!(is_cancelled());
                cancellable(|| false, || assert!(is_cancelled()));
            },
        );
        cancellable(
            || false,
            || cancellable(|| true, || assert!(is_cancelled())),
        );
        assert!(!is_cancelled());
    }

    #[test]
    fn a_pause_ends_with_the_work() {
        let looks = Arc::new(AtomicUsize::new(0));
        let seen = looks.clone();
        let third = move || seen.fetch_add(1, Ordering::Relaxed) >= 2;
        let started = Instant::now();
        cancellable(third, || sleep(Duration::from_secs(600)));
        assert_eq!(looks.load(Ordering::Relaxed), 3);
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
