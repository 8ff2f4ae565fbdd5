//! Following one run on one instrument from its beginning to its end, over any number of links.

use super::{Access, Incoming, Link, Voice, read_event};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{EVENT_VERSION, Event, EventKind, Outcome, RunId};
use crate::plan::{self, InstrumentPlan, Target};
use crate::protocol::{Query, QueryReply, RollbackOptions};
use crate::units::Span;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};
use std::fmt;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How often an instrument in hold is asked whether it is idle.
const IDLE_POLL: Duration = Duration::from_secs(20);

/// Clocks that differ by less are taken for the same.
const CLOCKS_AGREE: SignedDuration = SignedDuration::from_secs(60);

/// What goes with a plan that is handed over.
#[derive(Clone, Default)]
pub struct Submission {
    /// Names and values.
    pub secrets: Vec<(String, String)>,
    /// Questions of the playbook are answered with yes.
    pub answer_yes: bool,
}

impl fmt::Debug for Submission {
    /// Without the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.secrets.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Submission").field("secrets", &names).field("answer_yes", &self.answer_yes).finish()
    }
}

/// How following begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// The target's plan is handed over.
    Submit(Submission),
    /// The run is there already; empty: the newest. When it is not, the target's plan is handed over, if `submit` says so.
    Follow { run: String, submit: Option<Submission> },
    /// A finished run is undone, which is a run of its own named in the options.
    Rollback { run: String, options: RollbackOptions },
}

/// What the engine wants of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// `apply` may begin.
    pub release: bool,
    pub stop: Stop,
    /// The operator's answers, by question.
    pub answers: Vec<(String, bool)>,
}

/// How far a run is stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    #[default]
    No,
    /// What has not begun does not begin, and what is in hold ends there; everything else goes on.
    NotBegun,
    /// The open step is finished, then it is undone.
    AfterStep,
    /// It is undone at once.
    Now,
}

/// What the follower reports on the way.
#[derive(Debug)]
pub enum Signal {
    /// Of the instrument's journal, or of the link (with the number 0).
    Event(Box<Event>),
    /// In hold and ready: [`Orders::release`] would start `apply`.
    Ready,
    /// The instrument waits for the operator's answer.
    Question { id: String, text: String },
}

/// How following ended.
#[derive(Debug)]
pub enum End {
    /// The instrument said so itself.
    Finished(Outcome),
    /// The agent did not take the run.
    Refused(Error),
    /// The instrument could not be reached, or not again.
    Unreachable(Error),
    /// Something that trying again does not help.
    Failed(Error),
    /// Stopped before it began.
    NotBegun,
}

/// Follows a run. `idle`: a plan whose steps must all hold before [`Signal::Ready`] is given.
///
/// # Errors
/// Only those that `handler` returns; everything else is an [`End`].
pub async fn follow(
    access: &Access,
    target: &Target,
    start: Start,
    idle: Option<InstrumentPlan>,
    orders: watch::Receiver<Orders>,
    handler: &mut (dyn FnMut(Signal) -> Result<()> + Send),
) -> Result<End> {
    let run = match &start {
        Start::Submit(_) => target.plan.run.clone(),
        Start::Follow { run, .. } => RunId(run.clone()),
        Start::Rollback { options, .. } => RunId(options.as_run.clone()),
    };
    let follower = Follower {
        access,
        target,
        start,
        idle,
        orders,
        handler,
        run,
        last: 0,
        sent_before: 0,
        asked: false,
        taken: false,
        hold: Hold::NotYet,
        next_poll: None,
        question: None,
        caught_up: false,
        ahead: SignedDuration::ZERO,
    };
    follower.run().await
}

/// Where the run stands with its hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    NotYet,
    /// In hold; with `idle`, not known to be idle.
    Waiting,
    Ready,
    Over,
}

/// What was said over the link that is open now.
#[derive(Default)]
struct Said {
    release: bool,
    stop: Option<bool>,
    answers: usize,
}

struct Follower<'a> {
    access: &'a Access,
    target: &'a Target,
    start: Start,
    idle: Option<InstrumentPlan>,
    orders: watch::Receiver<Orders>,
    handler: &'a mut (dyn FnMut(Signal) -> Result<()> + Send),
    run: RunId,
    /// The number of the last event that was handled.
    last: u64,
    /// Bytes sent over links that are gone.
    sent_before: u64,
    /// The request to begin went out: the agent may work on it, whether it could say so or not.
    asked: bool,
    /// The agent took it.
    taken: bool,
    hold: Hold,
    next_poll: Option<Instant>,
    /// A question that no later event answered.
    question: Option<(String, String)>,
    /// All events there were when the link opened have come.
    caught_up: bool,
    /// How far the instrument's clock is ahead of this machine's, when that is worth minding.
    ahead: SignedDuration,
}

/// Either the end, or the loss of a link.
enum Session {
    End(End),
    Lost(Error),
}

impl Follower<'_> {
    async fn run(mut self) -> Result<End> {
        let mut attempt = 0;
        let mut pauses = self.pauses();
        let mut lost_at: Option<Instant> = None;
        let mut patient = false;
        loop {
            if self.may_not_begin() {
                return Ok(End::NotBegun);
            }
            attempt += 1;
            self.tell(EventKind::Connecting { attempt })?;
            let mut heard = false;
            let error = match self.session(&mut heard).await? {
                Session::End(end) => return Ok(end),
                Session::Lost(error) => error,
            };
            if heard {
                (attempt, pauses, lost_at) = (0, self.pauses(), None);
            }
            if self.asked && !patient {
                (patient, pauses) = (true, self.pauses());
            }
            let since = *lost_at.get_or_insert_with(Instant::now);
            let pause = pauses.next().filter(|pause| !self.asked || since.elapsed() + *pause < self.access.patience.reconnect);
            let pause = match pause {
                Some(pause) if error.is_temporary() && !self.waits_no_more() => pause,
                _ => return Ok(self.give_up(error)),
            };
            let retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            self.tell(EventKind::LinkLost { why: error.to_string(), retry_ms })?;
            self.pause(pause).await;
        }
    }

    /// The pauses between attempts: few as long as nothing was asked of the instrument, else as many as it takes.
    fn pauses(&self) -> ExponentialBackoff {
        let growing = ExponentialBuilder::default()
            .with_min_delay(Duration::from_secs(1))
            .with_max_delay(Duration::from_secs(30))
            .with_jitter();
        if self.asked {
            growing.without_max_times().build()
        } else {
            growing.with_max_times(self.access.patience.attempts.saturating_sub(1) as usize).build()
        }
    }

    fn may_not_begin(&self) -> bool {
        !self.asked && self.orders.borrow().stop > Stop::No
    }

    /// The operator has said twice that it is enough. Nobody can tell the instrument while there is no link.
    fn waits_no_more(&self) -> bool {
        self.orders.borrow().stop == Stop::Now
    }

    /// Waits, unless the run is stopped meanwhile.
    async fn pause(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            if self.may_not_begin() || self.waits_no_more() {
                return;
            }
            tokio::select! {
                () = sleep_until(end) => return,
                changed = self.orders.changed() => if changed.is_err() {
                    return sleep_until(end).await;
                },
            }
        }
    }

    fn give_up(&self, error: Error) -> End {
        let error = error.on_host(&self.target.plan.instrument);
        if !error.is_temporary() && !error.kind().is_unreachable() {
            return End::Failed(error);
        }
        if !self.asked {
            return End::Unreachable(error);
        }
        let lost = if self.waits_no_more() {
            "the link was lost, and it was not waited for".to_owned()
        } else if error.is_temporary() {
            format!("the link was lost and did not come back within {:?}", self.access.patience.reconnect)
        } else {
            "the link was lost and cannot be opened again".to_owned()
        };
        End::Unreachable(
            error
                .context(lost)
                .next(format!("the instrument goes on by itself; `ibexdeploy runs resume {}` follows it again", self.run)),
        )
    }

    /// One link from opening to loss. `heard` is set once the agent said anything about the run.
    async fn session(&mut self, heard: &mut bool) -> Result<Session> {
        let mut link = match self.open().await {
            Ok(Some(link)) => link,
            Ok(None) => return Ok(Session::End(End::NotBegun)),
            Err(error) => return Ok(Session::Lost(error)),
        };
        let hello = link.hello();
        let (agent, platform, host) = (hello.build.clone(), hello.platform.clone(), hello.host.clone());
        let now = hello.now;
        self.tell(EventKind::Connected { agent, platform, host })?;
        self.compare_clocks(now)?;
        if self.hold == Hold::Waiting {
            self.next_poll = Some(Instant::now());
        }
        if let Err(error) = self.begin(&link.voice()).await {
            return Ok(Session::Lost(error));
        }
        let end = self.listen(&mut link, heard).await;
        if matches!(end, Ok(Session::End(_))) {
            link.goodbye().await;
        }
        end
    }

    /// Times of a run are told by one clock, this machine's: durations across two would be nonsense.
    fn compare_clocks(&mut self, there: Option<Timestamp>) -> Result<()> {
        let ahead = there.map_or(SignedDuration::ZERO, |there| there.duration_since(Timestamp::now()));
        let before = std::mem::replace(&mut self.ahead, SignedDuration::ZERO);
        if ahead.abs() < CLOCKS_AGREE {
            return Ok(());
        }
        self.ahead = ahead;
        if (before - ahead).abs() < CLOCKS_AGREE {
            return Ok(());
        }
        let (span, way) =
            (Span(Duration::from_secs(ahead.unsigned_abs().as_secs())), if ahead.is_positive() { "ahead" } else { "behind" });
        self.tell(EventKind::Note { text: format!("its clock is {span} {way}; times are shown by this machine's clock") })
    }

    async fn open(&mut self) -> Result<Option<Link>> {
        let (access, target) = (self.access, self.target);
        let (bringing, mut brings) = watch::channel(false);
        let notice = || bringing.send_modify(|brings| *brings = true);
        let opening = access.open(target, &notice);
        tokio::pin!(opening);
        loop {
            if self.may_not_begin() {
                return Ok(None);
            }
            tokio::select! {
                link = &mut opening => return link.map(Some),
                Ok(()) = brings.changed() => self.tell(EventKind::Bringing)?,
                changed = self.orders.changed() => if changed.is_err() {
                    return opening.await.map(Some);
                },
            }
        }
    }

    /// Asks for the run, or for it to go on. Submitting again is how a restarted worker gets the secrets, also from a controller
    /// that goes on with a run.
    async fn begin(&mut self, link: &Voice) -> Result<()> {
        self.asked = true;
        self.caught_up = false;
        match &self.start {
            Start::Submit(submission) if !self.taken || !submission.secrets.is_empty() => {
                link.submit(self.target.plan.clone(), submission.clone()).await
            }
            Start::Follow { submit: Some(submission), .. } if !submission.secrets.is_empty() => {
                link.submit(self.target.plan.clone(), submission.clone()).await
            }
            Start::Rollback { run, options } if !self.taken => link.rollback(run, options.clone()).await,
            _ => link.events_since(self.run.as_str(), self.last + 1).await,
        }
    }

    /// The run is not there: the plan is handed over if it may be.
    async fn submit_instead(&mut self, link: &Voice) -> Option<Result<()>> {
        let Start::Follow { submit, .. } = &mut self.start else { return None };
        let submission = submit.take()?;
        self.run = self.target.plan.run.clone();
        self.start = Start::Submit(submission.clone());
        Some(link.submit(self.target.plan.clone(), submission).await)
    }

    async fn listen(&mut self, link: &mut Link, heard: &mut bool) -> Result<Session> {
        let mut said = Said::default();
        let voice = link.voice();
        let answer_by = Instant::now() + self.access.patience.answer;
        let mut following = true;
        loop {
            if self.taken
                && let Err(error) = self.say_orders(&voice, &mut said).await
            {
                return Ok(Session::Lost(error));
            }
            let poll_at = self.next_poll.unwrap_or(answer_by);
            let incoming = tokio::select! {
                incoming = link.next() => incoming,
                changed = self.orders.changed(), if following => {
                    following = changed.is_ok();
                    continue;
                }
                () = sleep_until(poll_at), if self.next_poll.is_some() => match self.poll_idle(&voice).await {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                () = sleep_until(answer_by), if !*heard => {
                    let late = format!("the agent did not answer within {:?}", self.access.patience.answer);
                    Err(Error::new(ErrorKind::Unreachable, late))
                }
            };
            let incoming = match incoming {
                Ok(incoming) => incoming,
                Err(error) => {
                    self.sent_before += link.sent();
                    return Ok(Session::Lost(error));
                }
            };
            *heard |= !matches!(incoming, Incoming::Sent(_));
            if let Some(session) = self.take(&voice, incoming).await? {
                return Ok(session);
            }
        }
    }

    async fn take(&mut self, link: &Voice, incoming: Incoming) -> Result<Option<Session>> {
        match incoming {
            Incoming::Event(json) => match read_event(&json) {
                Ok(event) => return self.handle(event),
                Err(error) => return Ok(Some(Session::Lost(error))),
            },
            Incoming::Sent(bytes) => self.tell(EventKind::Sent { bytes: self.sent_before + bytes })?,
            Incoming::Done => {
                let first = !std::mem::replace(&mut self.taken, true);
                if first
                    && matches!(self.start, Start::Rollback { .. })
                    && let Err(error) = link.events_since(self.run.as_str(), self.last + 1).await
                {
                    return Ok(Some(Session::Lost(error)));
                }
            }
            Incoming::Refused(error) if !self.taken => match self.submit_instead(link).await {
                None => return Ok(Some(Session::End(End::Refused(error.on_host(&self.target.plan.instrument))))),
                Some(Err(error)) => return Ok(Some(Session::Lost(error))),
                Some(Ok(())) => {}
            },
            // It was taken, and what its worker needs to know was lost meanwhile. It can still be resumed.
            Incoming::Refused(error) if !self.caught_up && error.kind() == ErrorKind::Integrity => {
                return Ok(Some(Session::End(End::Unreachable(error.on_host(&self.target.plan.instrument)))));
            }
            // A cancel or release that came too late, for example.
            Incoming::Refused(error) => self.tell(EventKind::Note { text: error.to_string() })?,
            Incoming::UpToDate { active: true } => {
                (self.taken, self.caught_up) = (true, true);
                self.put_question()?;
            }
            Incoming::UpToDate { active: false } => return Ok(Some(Session::End(End::Failed(self.no_end())))),
            Incoming::Reply(reply) => self.judge_idle(&reply)?,
        }
        Ok(None)
    }

    fn no_end(&self) -> Error {
        Error::new(
            ErrorKind::Integrity,
            format!("the instrument works on {} no more, and its journal has no end of it", self.run),
        )
        .on_host(&self.target.plan.instrument)
        .next(format!("`ibexdeploy status {}` shows in which state it is", self.target.plan.instrument))
    }

    /// Passes an event on, unless an earlier link brought it.
    fn handle(&mut self, mut event: Event) -> Result<Option<Session>> {
        self.taken = true;
        if event.n > 0 {
            if event.n <= self.last {
                return Ok(None);
            }
            self.last = event.n;
        }
        self.run = event.run.clone();
        // A time that no calendar has is left as it is.
        event.at = event.at.checked_sub(self.ahead).unwrap_or(event.at);
        event.instrument = Some(self.target.plan.instrument.clone());
        let (held, released) = (matches!(event.kind, EventKind::Held { .. }), matches!(event.kind, EventKind::Released));
        let mut finished = None;
        match &event.kind {
            EventKind::InstrumentFinished { outcome, .. } => finished = Some(*outcome),
            EventKind::Question { id, text } => self.question = Some((id.clone(), text.clone())),
            EventKind::StepFinished { .. } | EventKind::RollbackStarted { .. } => self.question = None,
            _ => {}
        }
        (self.handler)(Signal::Event(Box::new(event)))?;
        self.put_question()?;
        if held && self.idle.is_some() {
            (self.hold, self.next_poll) = (Hold::Waiting, Some(Instant::now()));
        } else if held {
            self.ready()?;
        } else if released {
            (self.hold, self.next_poll) = (Hold::Over, None);
        }
        Ok(finished.map(|outcome| Session::End(End::Finished(outcome))))
    }

    /// Passes a question on, unless it is an old one that a later event may answer.
    fn put_question(&mut self) -> Result<()> {
        match self.question.take_if(|_| self.caught_up) {
            Some((id, text)) => (self.handler)(Signal::Question { id, text }),
            None => Ok(()),
        }
    }

    fn ready(&mut self) -> Result<()> {
        (self.hold, self.next_poll) = (Hold::Ready, None);
        (self.handler)(Signal::Ready)
    }

    /// Asks whether the steps that must hold before `apply` do.
    async fn poll_idle(&mut self, link: &Voice) -> Result<()> {
        self.next_poll = Some(Instant::now() + IDLE_POLL);
        match &self.idle {
            Some(plan) => link.ask(Query::DryRun { plan: Box::new(plan.clone()) }).await,
            None => Ok(()),
        }
    }

    fn judge_idle(&mut self, reply: &QueryReply) -> Result<()> {
        match reply {
            // What is not known to hold does not: only a check with nothing left to do has been seen to.
            QueryReply::DryRun { steps, .. }
                if self.hold == Hold::Waiting && steps.iter().all(|s| s.error.is_none() && s.verdict == "skip") =>
            {
                self.ready()
            }
            _ => Ok(()),
        }
    }

    /// Says what the engine wants, once over each link.
    async fn say_orders(&mut self, link: &Voice, said: &mut Said) -> Result<()> {
        let orders = self.orders.borrow_and_update().clone();
        for (id, yes) in orders.answers.get(said.answers..).unwrap_or_default() {
            link.answer(id, *yes).await?;
        }
        said.answers = orders.answers.len();
        let in_hold = matches!(self.hold, Hold::Waiting | Hold::Ready);
        let now = match orders.stop {
            Stop::Now => Some(true),
            Stop::AfterStep => Some(in_hold),
            // What stages only to be held is not worth finishing either.
            Stop::NotBegun => (self.hold != Hold::Over && self.waits_for_release(in_hold) && !orders.release).then_some(true),
            Stop::No => None,
        };
        if let Some(now) = now {
            if said.stop.is_none_or(|before| now && !before) {
                said.stop = Some(now);
                link.cancel(self.run.as_str(), now).await?;
            }
        } else if orders.release && in_hold && !said.release {
            said.release = true;
            link.release(&self.run).await?;
        }
        Ok(())
    }

    fn waits_for_release(&self, in_hold: bool) -> bool {
        in_hold || matches!(self.target.plan.hold, plan::Hold::UntilReleased { .. })
    }

    /// Reports something that the controller itself sees.
    fn tell(&mut self, kind: EventKind) -> Result<()> {
        let event = Event {
            v: EVENT_VERSION,
            run: self.run.clone(),
            instrument: Some(self.target.plan.instrument.clone()),
            n: 0,
            at: Timestamp::now(),
            kind,
        };
        (self.handler)(Signal::Event(Box::new(event)))
    }
}
