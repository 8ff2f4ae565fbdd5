//! The same question to many instruments at once.

use crate::error::{Error, ErrorKind, Result};
use crate::link::{Access, Link};
use crate::plan::Target;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What is done with one instrument's link.
pub type Conversation<T> = dyn Fn(Target, Link) -> Pin<Box<dyn Future<Output = Result<T>> + Send>> + Send + Sync;

/// Opens a link to each target and has the same conversation over each, at most `jobs` at once, each within `limit`
/// from opening to answer. `done` hears of each answer as it comes; the results are in the order of the targets.
pub async fn ask_all<T: Send + 'static>(
    access: &Access,
    targets: &[Target],
    jobs: usize,
    limit: Duration,
    conversation: Arc<Conversation<T>>,
    mut done: impl FnMut(&str, &Result<T>),
) -> Vec<Result<T>> {
    let places = Arc::new(Semaphore::new(jobs.max(1)));
    let mut tasks = JoinSet::new();
    for (at, target) in targets.iter().cloned().enumerate() {
        let (access, conversation, places) = (access.clone(), Arc::clone(&conversation), Arc::clone(&places));
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            let name = target.plan.instrument.clone();
            let talk = async {
                let link = access.open(&target, &|| {}).await?;
                conversation(target, link).await
            };
            let answer = timeout(limit, talk)
                .await
                .unwrap_or_else(|_| Err(Error::new(ErrorKind::Unreachable, format!("no answer within {limit:?}"))));
            (at, answer.map_err(|e| e.on_host(name)))
        });
    }
    let mut answers: Vec<Option<Result<T>>> = targets.iter().map(|_| None).collect();
    while let Some(joined) = tasks.join_next().await {
        if let Ok((at, answer)) = joined {
            done(&targets[at].plan.instrument, &answer);
            answers[at] = Some(answer);
        }
    }
    answers.into_iter().map(|a| a.unwrap_or_else(|| Err(Error::internal("the task of a question broke off")))).collect()
}
