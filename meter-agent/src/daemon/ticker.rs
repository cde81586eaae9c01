//! A thread of its own that does one small thing at a steady pace.
//!
//! A thread and not a task, because a busy runtime must delay none of these: a heartbeat that is late stops every
//! agent.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError},
    thread::JoinHandle,
    time::Duration,
};

use crate::tasks;

/// Dropped, it stops the thread and waits for it.
pub struct Ticker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Calls `tick` now, and then each time `period` has passed since the last one ended.
    pub fn start(name: &'static str, period: Duration, mut tick: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = tasks::spawn_thread(name, move || {
            loop {
                tick();
                match stopped.recv_timeout(period) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been logged.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ticks_until_it_is_dropped() {
        let (tell, told) = mpsc::channel();
        let ticker = Ticker::start("test", Duration::from_millis(1), move || {
            let _ = tell.send(());
        })
        .unwrap();
        for _ in 0..3 {
            told.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        drop(ticker);
        while told.try_recv().is_ok() {}
        assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }
}
