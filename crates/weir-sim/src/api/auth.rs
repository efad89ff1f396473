//! Access control, and the various error responses of the API to rejected requests.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::ExposeSecret;

use hyper::StatusCode;

use crate::api::answer::{IncomingRequest, Reply};
use crate::api::routes::{Handler, Route};
use crate::options::Credentials;
use crate::tenant::Tenant;

const SCOPED_ON_SITE: &str = "<html><head><title>Unauthorized</title></head>\
                              <body><h1>401 Unauthorized</h1></body></html>";

impl Tenant {
    /// The response to a caller without access; `None` grants access.
    pub(crate) fn refusal(
        &self,
        call: &IncomingRequest,
        route: &Route,
        gateway: bool,
        revoked: bool,
    ) -> Option<Reply> {
        let credentials = match &self.options.credentials {
            _ if route.handler == Handler::TenantInfo => return None,
            None if revoked => return Some(stranger(route)),
            None => return None,
            Some(credentials) => credentials,
        };
        if revoked || !is_known(credentials, call.authorization, gateway) {
            return Some(stranger(route));
        }
        if credentials.scoped && !gateway {
            return Some(Reply::of(StatusCode::UNAUTHORIZED, "text/html", SCOPED_ON_SITE));
        }
        if credentials.scoped && credentials.lacks.iter().any(|scope| scope == route.scope) {
            let body = r#"{"code":401,"message":"Unauthorized; scope does not match"}"#;
            return Some(Reply::json(StatusCode::UNAUTHORIZED, body));
        }
        None
    }
}

/// Neither version of the API responds with 401 to a request without credentials.
fn stranger(route: &Route) -> Reply {
    if route.path.starts_with("/wiki/api/v2/") {
        return Reply::not_found("Not Found");
    }
    let text = match route.handler {
        Handler::CurrentUser => "caller cannot access Confluence",
        _ => "Current user not permitted to use Confluence",
    };
    Reply::of(StatusCode::FORBIDDEN, "text/plain", text)
}

fn is_known(credentials: &Credentials, authorization: Option<&str>, gateway: bool) -> bool {
    let Some((scheme, rest)) = authorization.and_then(|header| header.split_once(' ')) else {
        return false;
    };
    let token = credentials.token.expose_secret();
    if scheme.eq_ignore_ascii_case("bearer") {
        return gateway && rest == token;
    }
    let pair = format!("{}:{token}", credentials.email);
    scheme.eq_ignore_ascii_case("basic")
        && STANDARD.decode(rest).is_ok_and(|sent| sent == pair.as_bytes())
}
