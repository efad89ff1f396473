//! `weir sim`.

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::args::{Shared, Sim};
use crate::cli::exit::Exit;
use crate::cli::output::printer;
use crate::cli::simulated::tenant;
use crate::error::{Error, Kind, Result};
use weir_sim::{Credentials, Options, Simulator, serve};

pub(crate) fn run(command: &Sim, shared: Shared) -> Result<Exit> {
    let Sim::Confluence(args) = command;
    let credentials = args.email.clone().zip(args.token.clone()).map(|(email, token)| {
        Credentials { email, token: token.into(), scoped: false, lacks: Vec::new() }
    });
    let simulator = Simulator::new(Options { credentials, ..tenant(&args.site)? });
    crate::cli::exit::runtime()?.block_on(async {
        let failed = |error| {
            Error::new(Kind::Unreachable, format!("weir cannot listen on `{}`", args.listen)).because(error)
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
            let credentials = match args.site.points_per_hour {
                Some(_) => format!("{credentials}, quota: points"),
                None => credentials,
            };
            printer::data(&format!("serving http://{address}; press Ctrl-C to stop. A connection to it:"));
            printer::data(&format!(
                "WIKI='{{type: api, spec: confluence, domain: acme.atlassian.net, site_url: \"http://{address}\", {credentials}}}'"
            ));
        }
        let cancel = CancellationToken::new();
        let serving = serve(simulator, listener, cancel.clone());
        tokio::select! {
            served = serving => served.map_err(|error| Error::new(Kind::Unreachable, "the simulator has stopped").because(error))?,
            _ = tokio::signal::ctrl_c() => cancel.cancel(),
        }
        Ok(Exit::Done)
    })
}
