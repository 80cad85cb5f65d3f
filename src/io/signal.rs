//! What the system asks of a running tool: signals as values, and a way out when nothing listens any more.

use std::io;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A request that came as a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT: say goodbye, flush, end.
    Stop,
    /// HUP: read configuration and lists again, reopen files.
    Reload,
    /// USR1: write a record of every kind now.
    Report,
    /// USR2: take no new children, end when there are none left.
    Drain,
}

/// The signals of this process, as they come. From its creation on they no longer end the process.
///
/// A task waits for all of them and hands them on, so that whoever waits for the next one, on each of its rounds, looks
/// at one queue only.
#[derive(Debug)]
pub struct Signals {
    queue: UnboundedReceiver<Signal>,
}

impl Signals {
    /// Begins to listen; within a tokio runtime whose I/O is enabled.
    ///
    /// # Errors
    ///
    /// When the system refuses a handler.
    pub fn new() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut user1 = signal(SignalKind::user_defined1())?;
        let mut user2 = signal(SignalKind::user_defined2())?;
        let (sender, queue) = unbounded_channel();
        tokio::spawn(async move {
            // The streams end only with the runtime, and then nobody waits here.
            loop {
                let signal = tokio::select! {
                    _ = terminate.recv() => Signal::Stop,
                    _ = interrupt.recv() => Signal::Stop,
                    _ = hangup.recv() => Signal::Reload,
                    _ = user1.recv() => Signal::Report,
                    _ = user2.recv() => Signal::Drain,
                };
                if sender.send(signal).is_err() {
                    break;
                }
            }
        });
        Ok(Self { queue })
    }

    /// Waits for the next signal. Safe to drop and call again, as in `select!`.
    pub async fn next(&mut self) -> Signal {
        match self.queue.recv().await {
            Some(signal) => signal,
            // The task ends only with the runtime.
            None => std::future::pending().await,
        }
    }
}

/// Calls `exit` at the second INT, from a thread of its own: the first one asks the tool to stop, and whoever presses
/// the keys again means at once, also when the tool hangs in a write that its reader does not take.
///
/// # Errors
///
/// When the thread or its handler cannot be made.
pub fn on_second_interrupt(exit: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let mut interrupts = {
        let _context = runtime.enter();
        signal(SignalKind::interrupt())?
    };
    let wait = move || {
        runtime.block_on(async {
            interrupts.recv().await;
            interrupts.recv().await;
        });
        exit();
    };
    // It holds two streams and nothing else; the usual 2 MiB would be most of a small tool's stack.
    thread::Builder::new()
        .name("interrupt".to_owned())
        .stack_size(128 * 1024)
        .spawn(wait)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::sync::mpsc;
    use std::time::Duration;

    fn raise(name: &str) {
        let id = std::process::id().to_string();
        let status = Command::new("sh")
            .args(["-c", "kill -\"$0\" \"$1\"", name, &id])
            .status()
            .expect("a shell");
        assert!(status.success());
    }

    // One test for both: signals are for the whole process, and tests share it.
    #[test]
    fn signals_arrive_as_values_and_the_second_interrupt_at_once() {
        let (sender, receiver) = mpsc::channel();
        on_second_interrupt(move || sender.send(()).expect("the test waits")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut signals = Signals::new().unwrap();
            for (name, expected) in [
                ("HUP", Signal::Reload),
                ("USR1", Signal::Report),
                ("USR2", Signal::Drain),
                ("TERM", Signal::Stop),
                ("INT", Signal::Stop),
            ] {
                raise(name);
                assert_eq!(signals.next().await, expected, "{name}");
            }
        });
        assert!(receiver.try_recv().is_err());
        // Nobody drives the first runtime here: the watcher hears of it alone. Signals that come before it looked at the
        // first one count as one with it, so a hurried user, and this test, may have to press once more.
        let heard = (0..100).any(|_| {
            raise("INT");
            receiver.recv_timeout(Duration::from_millis(100)).is_ok()
        });
        assert!(heard);
    }
}
