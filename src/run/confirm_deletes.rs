//! Requests each row that a full read did not return, before the target deletes it.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::error::{Kind, Result};
use crate::extract::run_context::RunContext;
use crate::http::answer::Answer;
use crate::http::call::{Call, Need};
use crate::http::exchange::Request;
use crate::http::request;
use crate::plan::{ConfirmPlan, StreamPlan};
use crate::quota::request_cost::{ObjectEstimate, RequestCost};
use crate::report::counters::Stats;
use crate::run::loader::Loader;
use crate::run::markers::{Marker, NO_SLICE};
use crate::spec::Then;
use crate::template::Value;
use crate::write::{CommitInfo, Deletable, Deletes, Disposition, Table};

/// Maximum number of missing rows to confirm. With more, weir confirms none of them.
pub(crate) const MOST: usize = 1000;

/// Requests the rows that a commit would delete, if the spec declares how, and marks those that still exist.
pub(crate) async fn ask(env: &RunContext, loader: &mut Loader, ending: &CommitInfo) -> Result<()> {
    let plan = Arc::clone(&loader.plan);
    let deletes = plan.output.as_ref().is_some_and(|output| {
        let Table { disposition, deletes, .. } = &output.table;
        *disposition == Disposition::Merge && *deletes != Deletes::Ignore
    });
    let sure = deletes && ending.deletable == Deletable::Everything;
    let Some(confirm) = plan.confirm.as_ref().filter(|_| sure) else { return Ok(()) };
    let Some(missing) = loader.missing(ending, MOST).await? else { return Ok(()) };
    let stats = Arc::clone(&loader.stats);
    let there = stream::iter(missing)
        .map(|key| {
            let (plan, stats) = (&plan, &stats);
            async move { exists(env, plan, confirm, stats, &key).await.map(|there| (there, key)) }
        })
        .buffer_unordered(usize::try_from(plan.concurrency).unwrap_or(1).max(1))
        .try_filter_map(|(there, key)| async move { Ok(there.then_some(key)) })
        .try_collect()
        .await?;
    loader.confirmed(there);
    Ok(())
}

impl Loader {
    /// Keys of the existing rows that a commit would delete; `None` if there are more than `most`, or if the
    /// target cannot list them.
    async fn missing(&mut self, ending: &CommitInfo, most: usize) -> Result<Option<Vec<String>>> {
        self.hand_over().await?;
        match self.writer.as_mut() {
            Some(writer) => writer.missing(ending, most).await,
            None => Ok(None),
        }
    }

    /// Records that all missing rows were requested, and marks those that still exist.
    fn confirmed(&mut self, there: Vec<String>) {
        self.progress.confirmed = true;
        let marks =
            there.into_iter().map(|key| Marker { value: key, read: false, slice: NO_SLICE });
        self.pending.marks.extend(marks);
    }
}

/// Whether a record exists. `true` if that is unknown.
async fn exists(
    env: &RunContext,
    plan: &StreamPlan,
    confirm: &ConfirmPlan,
    stats: &Stats,
    key: &str,
) -> Result<bool> {
    let scope = env.scope(plan).with(confirm.key.as_str().into(), Value::from(key));
    let scope = Arc::new(scope);
    let build = || {
        let path = confirm.path.render_path(&scope).map_err(|error| request::unfilled(&error))?;
        let base_url = &env.client.access.base_url;
        request::url_of(base_url, &path, &confirm.query, &scope).map(Request::get)
    };
    let estimate = ObjectEstimate::new(1);
    let call = Call {
        stream: &plan.name,
        stats,
        rules: &plan.rules,
        child: true,
        need: Need::Tentative,
        leaves: true,
        shared: false,
        price: RequestCost { cost: plan.cost, estimate: &estimate, page: None },
        build: &build,
        shrink: &|| false,
        narrow: &|| false,
    };
    match env.client.ask(&call, |_| Ok(((), 1))).await {
        Ok(Answer::Given { then, status, .. }) => {
            Ok(then != Then::Gone && !matches!(status, Some(404 | 410)))
        }
        Ok(Answer::Read(()) | Answer::Failed(_)) => Ok(true),
        // The API accepts the credentials for the listing but not for this request.
        Err(error) if error.kind() == Kind::Credentials && env.client.lockout.error().is_none() => {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}
