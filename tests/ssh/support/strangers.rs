//! What may listen at a port instead of an SSH server that answers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// A listener that says one thing to everybody, and then nothing.
pub(crate) struct Stranger {
    port: u16,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    /// Says these words when somebody connects; with `then_closes` after the first thing that it is told.
    pub(crate) fn saying(words: &'static str, then_closes: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            // Connections stay open for as long as the stranger is there.
            let mut open = Vec::new();
            for client in listener.incoming() {
                if stopped.try_recv().is_ok() {
                    return;
                }
                let Ok(mut client) = client else { continue };
                if then_closes {
                    // It may be gone already.
                    let _ = client.read(&mut [0; 512]);
                    let _ = client.write_all(words.as_bytes());
                } else {
                    let _ = client.write_all(words.as_bytes());
                    open.push(client);
                }
            }
        });
        Self { port, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // It has ended already when this does not reach it.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
