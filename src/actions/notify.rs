//! `notify`: a mail or a webhook.

use super::{Applied, Difference, Perform, Probe, StepContext};
use crate::error::{Error, IoContext, Result};
use crate::files;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::{Message, SmtpTransport, Transport};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Tells people or programs; exactly one of the two is set. It cannot be taken back, so it stands in `stage`, before
/// anything is changed, or in `close`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<Mail>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// Sent when the instrument ends as `failed`, `rolled_back` or `rollback_failed`, and only then. Stands in `close`. Its
    /// templates know `ended.outcome` and `ended.error`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub if_failed: bool,
}

/// A mail through an SMTP relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// The relay, `host` or `host:port`.
    pub relay: String,
    /// The sender's address.
    pub from: String,
    /// The addresses it goes to.
    pub to: Vec<String>,
    /// The subject line.
    pub subject: String,
    /// The text, a template. Use `template` for a longer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A file with the text, relative to the playbook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// An HTTP POST with a JSON body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where it is sent.
    pub url: String,
    /// The body, any YAML; strings in it are templates.
    pub body: serde_json::Value,
}

/// How long a relay or a web server may take for one answer.
const ANSWER: Duration = Duration::from_secs(30);
/// The usual port of a mail relay.
const SMTP: u16 = 25;

impl Mail {
    fn message(&self) -> Result<Message> {
        let mailbox = |address: &str| {
            address.parse::<Mailbox>().map_err(|e| {
                Error::bad_input(format!("`{address}` is not a mail address"))
                    .because(e)
                    .next("write it as name@host, or `Name <name@host>`")
            })
        };
        let mut message = Message::builder().from(mailbox(&self.from)?).subject(&self.subject).header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            message = message.to(mailbox(to)?);
        }
        let text = self.text.clone().unwrap_or_default();
        message.body(text).map_err(|e| Error::bad_input("the mail cannot be written").because(e))
    }

    /// Host and port of the relay.
    fn relay(&self) -> Result<(&str, u16)> {
        match self.relay.rsplit_once(':') {
            None => Ok((&self.relay, SMTP)),
            Some((host, port)) => {
                let port = port.parse().map_err(|e| Error::bad_input(format!("`{}` is not a mail relay", self.relay)).because(e));
                Ok((host, port.map_err(|e: Error| e.next("write it as `host` or `host:port`"))?))
            }
        }
    }

    fn send(&self, limit: Duration) -> Result<()> {
        let message = self.message()?;
        let (host, port) = self.relay()?;
        // The relays of the site take plain SMTP from inside.
        let transport = SmtpTransport::builder_dangerous(host).port(port).timeout(Some(limit)).build();
        transport.send(&message).map(|_| ()).map_err(|e| {
            let error = Error::step_failed(format!("the relay {} did not take the mail", self.relay)).because(&e);
            let error = if e.is_permanent() { error } else { error.temporary() };
            error.next("see that the relay's name is right and that it takes mail from this machine")
        })
    }
}

impl Webhook {
    fn send(&self, limit: Duration) -> Result<()> {
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder().timeout_global(Some(limit)).http_status_as_error(false).build(),
        );
        let body = serde_json::to_vec(&self.body).map_err(|e| Error::internal("cannot write the body").because(e))?;
        let answer = agent.post(&self.url).header("content-type", "application/json").send(&body[..]);
        let hint = "see that the address is right and that this machine may reach it";
        let mut answer = answer
            .map_err(|e| Error::step_failed(format!("{} cannot be reached", self.shown())).because(e).temporary().next(hint))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let text = answer.body_mut().with_config().limit(4096).read_to_string().unwrap_or_default();
        let error = Error::step_failed(format!("{} answered {status}", self.shown()));
        let error = error.with_output(text.lines().take(10).map(str::to_owned).collect()).next(hint);
        Err(if status.is_server_error() { error.temporary() } else { error })
    }

    /// The address without its query, where services put their tokens.
    fn shown(&self) -> &str {
        self.url.split(['?', '#']).next().unwrap_or_default()
    }
}

impl Notify {
    fn words(&self) -> String {
        match (&self.mail, &self.webhook) {
            (Some(mail), _) => format!("a mail to {} by {}", mail.to.join(", "), mail.relay),
            (None, Some(webhook)) => format!("a message to {}", webhook.shown()),
            (None, None) => String::new(),
        }
    }

    fn complete(&self) -> Result<()> {
        if self.mail.is_some() == self.webhook.is_some() {
            return Err(Error::bad_input("a notification has one of `mail` and `webhook`").next("make it two steps for both"));
        }
        if self.mail.as_ref().is_some_and(|m| m.to.is_empty()) {
            return Err(Error::bad_input("the mail goes to nobody").next("write at least one address under `to`"));
        }
        Ok(())
    }
}

impl Perform for Notify {
    fn describe(&self) -> String {
        format!("notify: {}", self.words())
    }

    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        self.complete()?;
        if let Some(mail) = &self.mail {
            mail.message()?;
            mail.relay()?;
        }
        Ok(Probe { difference: Difference::Some, summary: format!("would send {}", self.words()), ..Probe::default() })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        self.complete()?;
        if cx.plan.rehearsal {
            let path = cx.data_file("notification.json");
            let text = serde_json::to_vec_pretty(self).map_err(|e| Error::internal("cannot write a notification").because(e))?;
            std::fs::write(&path, text).cannot(|| format!("write {}", path.display()))?;
            return Ok(Applied::ok(format!("a rehearsal: {} was written to {} and not sent", self.words(), path.display())));
        }
        let sent = cx.data_file("sent.json");
        if files::read_json::<bool>(&sent)?.is_some() {
            return Ok(Applied::ok("it was sent before the agent was interrupted"));
        }
        let limit = || ANSWER.min(cx.deadline.left()).max(Duration::from_millis(1));
        if let Some(mail) = &self.mail {
            mail.send(limit())?;
        }
        if let Some(webhook) = &self.webhook {
            webhook.send(limit())?;
        }
        files::write_json(&sent, &true)?;
        Ok(Applied::changed(format!("sent {}", self.words())))
    }

    fn cannot_undo(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use crate::events::Outcome;
    use crate::platform::testing::Bench;
    use serde_json::json;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread::JoinHandle;

    /// Serves one connection and gives what `serve` returns.
    fn server(serve: impl FnOnce(BufReader<TcpStream>) -> String + Send + 'static) -> (u16, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (port, std::thread::spawn(move || serve(BufReader::new(listener.accept().unwrap().0))))
    }

    fn relay(mut stream: BufReader<TcpStream>) -> String {
        let mut said = String::new();
        stream.get_mut().write_all(b"220 relay\r\n").unwrap();
        let mut in_data = false;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).unwrap() == 0 {
                return said;
            }
            said.push_str(&line);
            let answer: &[u8] = match line.trim_end() {
                "." => b"250 taken\r\n",
                _ if in_data => continue,
                "DATA" => b"354 go on\r\n",
                "QUIT" => b"221 bye\r\n",
                _ => b"250 fine\r\n",
            };
            in_data = line.trim_end() == "DATA";
            stream.get_mut().write_all(answer).unwrap();
            if line.trim_end() == "QUIT" {
                return said;
            }
        }
    }

    fn web(status: &'static str) -> impl FnOnce(BufReader<TcpStream>) -> String + Send {
        move |mut stream| {
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap();
                }
                head.push_str(&line);
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\nconnection: close\r\n\r\noops");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            head + &String::from_utf8(body).unwrap()
        }
    }

    fn mail(port: u16) -> Bench {
        let mail = json!({"relay": format!("127.0.0.1:{port}"), "from": "ibex@example.org", "to": ["a@example.org", "B <b@example.org>"],
            "subject": "LARMOR is on 26.8.0", "text": "It is done.\n"});
        Bench::of(json!({"notify": {"mail": mail}}))
    }

    #[test]
    fn a_mail_reaches_the_relay() {
        let (port, said) = server(relay);
        assert_eq!(mail(port).apply().unwrap().outcome, Outcome::Changed);
        let said = said.join().unwrap();
        for part in [
            "MAIL FROM:<ibex@example.org>",
            "RCPT TO:<a@example.org>",
            "RCPT TO:<b@example.org>",
            "Subject: LARMOR is on 26.8.0",
            "It is done.",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }

    #[test]
    fn what_was_sent_is_not_sent_again_after_a_crash() {
        let (port, said) = server(relay);
        let bench = mail(port);
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        said.join().unwrap();
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Ok, "no relay listens any more");
    }

    #[test]
    fn a_relay_that_is_not_there_is_named() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = mail(port).apply().unwrap_err();
        assert!(error.to_string().contains(&format!("the relay 127.0.0.1:{port} did not take the mail")), "{error}");
        assert!(error.is_temporary());
    }

    #[test]
    fn a_webhook_gets_the_body_and_its_refusal_is_shown() {
        let hook = |port: u16| {
            Bench::of(
                json!({"notify": {"webhook": {"url": format!("http://127.0.0.1:{port}/hook?token=abc"), "body": {"text": "done"}}}}),
            )
        };
        let (port, said) = server(web("200 OK"));
        assert_eq!(hook(port).apply().unwrap().outcome, Outcome::Changed);
        let said = said.join().unwrap();
        assert!(said.starts_with("POST /hook?token=abc ") && said.ends_with("{\"text\":\"done\"}"), "{said}");
        let (port, said) = server(web("403 Forbidden"));
        let error = hook(port).apply().unwrap_err();
        said.join().unwrap();
        assert!(error.to_string().contains("answered 403"), "{error}");
        assert!(!error.to_string().contains("abc"), "{error}");
        assert_eq!(error.details().output, ["oops"]);
    }

    #[test]
    fn a_rehearsal_sends_nothing() {
        let mut bench = mail(1);
        bench.plan.rehearsal = true;
        let applied = bench.apply().unwrap();
        assert_eq!(applied.outcome, Outcome::Ok);
        assert!(applied.summary.contains("not sent"), "{}", applied.summary);
    }

    #[test]
    fn a_bad_address_is_found_before_anything_runs() {
        let bench = Bench::of(json!({"notify": {"mail": {"relay": "r", "from": "nobody", "to": ["a@b.c"], "subject": "s"}}}));
        assert_eq!(bench.probe().unwrap_err().kind(), crate::error::ErrorKind::BadInput);
    }
}
