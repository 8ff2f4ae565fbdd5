//! An SSH agent on the operator's PC: a real one, behind the named pipe that Windows' own has.

use crate::operator::{Operator, run};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The agent, and the program that has the pipe; both end with the test.
pub(crate) struct SshAgent {
    agent: Child,
    pipe: Child,
}

impl SshAgent {
    /// With one key.
    pub(crate) fn start(operator: &Operator, key: &Path) -> Self {
        let program = operator.drive().join("agent_pipe.exe");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/windows_controller/agent_pipe.c");
        run(Command::new("x86_64-w64-mingw32-gcc")
            .args(["-O2", "-Wall", "-Werror", "-o"])
            .arg(&program)
            .arg(source)
            .arg("-lws2_32"));
        let socket = operator.dir().join("agent.sock");
        let mut agent =
            Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::piped()).spawn().expect("ssh-agent");
        // Once it says where its socket is, that is there.
        let mut said = String::new();
        BufReader::new(agent.stdout.take().expect("its output")).read_line(&mut said).expect("its first line");
        run(Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).stdin(Stdio::null()));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its number").port();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                relay(client, UnixStream::connect(&socket).expect("the agent listens"));
            }
        });
        let mut command = operator.wine("wine");
        let mut pipe = command.arg(&program).arg(port.to_string()).stdout(Stdio::piped()).spawn().expect("wine");
        let mut ready = String::new();
        BufReader::new(pipe.stdout.take().expect("its output")).read_line(&mut ready).expect("its word");
        assert_eq!(ready.trim(), "ready");
        Self { agent, pipe }
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        for child in [&mut self.pipe, &mut self.agent] {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Passes bytes on in both directions until one side has ended.
fn relay(client: TcpStream, agent: UnixStream) {
    let (mut from, mut to) = (client.try_clone().expect("a socket"), agent.try_clone().expect("a socket"));
    std::thread::spawn(move || {
        // The end of one direction is the end of both.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let (mut from, mut to) = (agent, client);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
