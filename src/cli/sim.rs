//! `weir sim`, and the simulated API in this process.

use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    Exit,
    args::{Shared, Sim, SimConfluence},
    printer,
};
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::sim::{Credentials, Options, Simulator, serve};

/// What a connection may say under `simulate`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    seed: Option<u64>,
    spaces: Option<usize>,
    pages: Option<usize>,
    blog_posts: Option<usize>,
    attachments: Option<usize>,
    body_bytes: Option<usize>,
}

/// Options of a simulated tenant, from a connection's `simulate`.
pub(super) fn options(settings: &serde_json::Value) -> Result<Options> {
    let settings = if settings.is_null() { serde_json::json!({}) } else { settings.clone() };
    let settings: Settings = serde_json::from_value(settings).map_err(|error| {
        Error::input("`simulate` of the connection is not valid").because(error)
    })?;
    let usual = Options::default();
    Ok(Options {
        seed: settings.seed.unwrap_or(usual.seed),
        spaces: settings.spaces.unwrap_or(usual.spaces),
        pages: settings.pages.unwrap_or(usual.pages),
        blog_posts: settings.blog_posts.unwrap_or(usual.blog_posts),
        attachments: settings.attachments.unwrap_or(usual.attachments),
        body_bytes: settings.body_bytes.unwrap_or(usual.body_bytes),
        ..usual
    })
}

pub(super) fn run(command: &Sim, shared: Shared) -> Result<Exit> {
    let Sim::Confluence(args) = command;
    let simulator = Simulator::new(tenant(args));
    super::runtime()?.block_on(async {
        let failed = |error| {
            Error::new(Kind::Unreachable, format!("`{}` cannot be listened on", args.listen)).because(error)
        };
        let listener = TcpListener::bind(&args.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if shared.json {
            printer::json(&serde_json::json!({ "url": format!("http://{address}") }));
        } else {
            let credentials = match (&args.email, &args.token) {
                (Some(email), Some(_)) => format!("email: {email}, api_token: …"),
                _ => "email: any@example.net, api_token: any".to_owned(),
            };
            printer::data(&format!("serving http://{address}; Ctrl-C ends it. A connection to it:"));
            printer::data(&format!(
                "WIKI='{{type: api, spec: confluence, domain: acme.atlassian.net, site_url: \"http://{address}\", {credentials}}}'"
            ));
        }
        let cancel = CancellationToken::new();
        let serving = serve(simulator, listener, cancel.clone());
        tokio::select! {
            served = serving => served?,
            _ = tokio::signal::ctrl_c() => cancel.cancel(),
        }
        Ok(Exit::Done)
    })
}

fn tenant(args: &SimConfluence) -> Options {
    let credentials = args.email.clone().zip(args.token.clone()).map(|(email, token)| {
        Credentials { email, token: Secret::new(token), scoped: false, lacks: Vec::new() }
    });
    Options {
        seed: args.seed,
        spaces: args.spaces,
        pages: args.pages,
        blog_posts: args.blog_posts,
        attachments: args.attachments,
        body_bytes: args.body_bytes,
        latency: Duration::from_millis(args.latency_ms),
        credentials,
        ..Options::default()
    }
}
