//! Base URL and authentication of a connection, resolved.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use crate::error::{Error, Kind, Result};
use crate::http::auth::{Auth, OnDeviceCode, RefreshTokenStore, TokenSource};
use crate::http::exchange::{HeaderName, HeaderValue, Url};
use crate::secret::{Secret, hide};
use crate::spec::{AuthChoice, Fields, OAuth2, Spec};
use crate::template::{Expression, Scope, Template, TemplateError, Value};

/// What OAuth 2.0 needs from the caller: a store for new refresh tokens, and a way to show the user
/// a device code.
#[derive(Clone)]
pub struct AccessHooks {
    /// Store of refresh tokens that the server replaces at each use.
    pub keeper: Option<Arc<dyn RefreshTokenStore>>,
    /// See [`OnDeviceCode`].
    pub on_device_code: OnDeviceCode,
}

impl Default for AccessHooks {
    fn default() -> Self {
        Self { keeper: None, on_device_code: Arc::new(|_, _| {}) }
    }
}

/// The base URL of an API, and the credentials of every request.
#[derive(Debug)]
pub struct Access {
    /// Base URL without a final slash. Every path is appended to it.
    pub base_url: String,
    /// How requests authenticate.
    pub auth: Auth,
    /// The non-secret values in the credentials, which identify the account.
    pub account: String,
    /// Headers of every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The request that tests a connection; `None` if the spec has none.
    pub test: Option<TestPlan>,
}

/// The request that tests a connection.
#[derive(Debug)]
pub struct TestPlan {
    path: Template,
    query: Vec<(String, Template)>,
    /// The connection's values.
    variables: BTreeMap<String, Value>,
}

impl TestPlan {
    fn new(spec: &Spec, fields: &Fields) -> Option<Self> {
        let test = spec.probe()?;
        let path = Template::parse(&test.get).ok()?;
        let all =
            test.query.iter().flat_map(|(name, all)| all.0.iter().map(move |one| (name, one)));
        let query = all.map(|(name, text)| Some((name.clone(), Template::parse(text).ok()?)));
        Some(Self { path, query: query.collect::<Option<_>>()?, variables: fields.variables() })
    }

    /// The variables of its templates, without those of a session.
    pub fn scope(&self) -> Scope {
        Scope::new(self.variables.clone())
    }

    /// Its URL; `None` if the scope lacks a variable that it needs.
    pub fn url(&self, base_url: &str, scope: &Arc<Scope>) -> Option<Url> {
        let path = self.path.render_path(scope).ok()?;
        let mut url = Url::parse(&format!("{base_url}{path}")).ok()?;
        for (name, template) in &self.query {
            url.query_pairs_mut().append_pair(name, &template.render(scope).ok()?);
        }
        Some(url)
    }
}

impl Access {
    /// Chooses the base URL and the authentication for the connection's values.
    ///
    /// # Errors
    /// No alternative's `when` holds, or the values do not make a URL or a header.
    pub fn new(spec: &Spec, fields: &Fields, hooks: &AccessHooks) -> Result<Self> {
        fields.secret.values().for_each(|secret| hide(secret.expose()));
        let open = Arc::new(Scope::new(fields.variables()));
        let secret = Arc::new(Scope::new(fields.with_secrets()));
        let filled = |error: TemplateError| Error::input(error.message);
        let mut base_url = None;
        for choice in &spec.base_url.0 {
            if holds(choice.when.as_deref(), &open)? {
                let template = Template::parse(&choice.url).map_err(filled)?;
                base_url = Some(template.render(&open).map_err(filled)?);
                break;
            }
        }
        let base_url = base_url.ok_or_else(|| Error::input("no `base_url` of the spec applies"))?;
        let base_url = base_url.trim_end_matches('/').to_owned();
        check_url(&base_url)?;
        let (mut auth, mut account) = (Auth::None, String::new());
        for choice in &spec.auth.0 {
            if chosen(choice.when.as_deref(), &secret)? {
                auth = Self::auth(choice, &secret, hooks)?;
                account = account_of(choice, fields);
                break;
            }
        }
        let mut headers = Vec::new();
        for (name, value) in &spec.headers {
            let value =
                Template::parse(value).and_then(|value| value.render(&open)).map_err(filled)?;
            headers.push(header(name, &value)?);
        }
        let test = TestPlan::new(spec, fields);
        Ok(Self { base_url, auth, account, headers, test })
    }

    fn auth(choice: &AuthChoice, scope: &Arc<Scope>, hooks: &AccessHooks) -> Result<Auth> {
        let fill = |text: &str| fill_secret(text, scope);
        if let Some(basic) = &choice.basic {
            return Auth::basic(fill(&basic.username)?.expose(), &fill(&basic.password)?);
        }
        if let Some(token) = &choice.bearer {
            return Auth::bearer(&fill(token)?);
        }
        if let Some(named) = &choice.header {
            let (name, _) = header(&named.name, "")?;
            return Auth::header(name, &fill(&named.value)?);
        }
        if let Some(named) = &choice.query {
            return Ok(Auth::Query(named.name.clone(), fill(&named.value)?));
        }
        match &choice.oauth2 {
            Some(oauth2) => oauth2_source(oauth2, &fill, hooks),
            None => Ok(Auth::None),
        }
    }
}

/// The non-secret values that the templates of an authentication use.
fn account_of(choice: &AuthChoice, fields: &Fields) -> String {
    let mut texts: Vec<&str> = choice.bearer.iter().map(String::as_str).collect();
    texts.extend(choice.basic.iter().flat_map(|one| [&one.username, &one.password].map(|t| &**t)));
    texts.extend([&choice.header, &choice.query].into_iter().flatten().map(|one| &*one.value));
    texts.extend(choice.oauth2.iter().flat_map(|one| [&*one.token_url, &*one.client_id]));
    let templates = texts.into_iter().filter_map(|text| Template::parse(text).ok());
    let names: BTreeSet<String> = templates.flat_map(|template| template.variables()).collect();
    let open = names.into_iter().filter_map(|name| Some((fields.open.get(&name)?, name)));
    open.map(|(value, name)| format!("{name}={value}")).collect::<Vec<_>>().join("\n")
}

fn oauth2_source(
    oauth2: &OAuth2,
    fill: &dyn Fn(&str) -> Result<Secret>,
    hooks: &AccessHooks,
) -> Result<Auth> {
    let optional = |text: &Option<String>| {
        let filled = text.as_deref().map(fill).transpose()?;
        Ok::<_, Error>(filled.filter(|secret| !secret.expose().is_empty()))
    };
    let url = |text: &str| {
        let text = fill(text)?;
        Url::parse(text.expose())
            .map_err(|_| Error::input("a URL of the spec's `oauth2` is not valid"))
    };
    let params = oauth2
        .params
        .iter()
        .map(|(name, value)| fill(value).map(|value| (name.clone(), value.expose().to_owned())));
    Ok(Auth::OAuth2(Box::new(TokenSource {
        grant: oauth2.grant,
        token_url: url(&oauth2.token_url)?,
        device_url: oauth2.device_url.as_deref().map(url).transpose()?,
        client_id: fill(&oauth2.client_id)?.expose().to_owned(),
        client_secret: optional(&oauth2.client_secret)?,
        client_auth: oauth2.client_auth,
        scopes: oauth2.scopes.join(" "),
        params: params.collect::<Result<_>>()?,
        refresh_token: Mutex::new(optional(&oauth2.refresh_token)?),
        rotating: oauth2.refresh_field().filter(|_| oauth2.rotates).map(str::to_owned),
        keeper: hooks.keeper.clone(),
        on_device_code: Arc::clone(&hooks.on_device_code),
        current: tokio::sync::Mutex::new(None),
    })))
}

fn holds(when: Option<&str>, scope: &Arc<Scope>) -> Result<bool> {
    let Some(when) = when else { return Ok(true) };
    Expression::parse(when)
        .and_then(|when| when.holds(scope))
        .map_err(|error| Error::input(format!("`when: {when}`: {error}")))
}

/// Whether the condition of an alternative holds. It may use secrets, so the error names no values.
fn chosen(when: Option<&str>, scope: &Arc<Scope>) -> Result<bool> {
    let Some(when) = when else { return Ok(true) };
    let holds = Expression::parse(when).and_then(|when| when.holds(scope));
    holds.map_err(|_| {
        Error::input(format!("`when: {when}` of the spec's `auth` cannot be evaluated"))
    })
}

/// Renders a template that may contain secrets, so the error names no values.
fn fill_secret(text: &str, scope: &Arc<Scope>) -> Result<Secret> {
    let filled = Template::parse(text).and_then(|template| template.render(scope));
    filled.map(Secret::new).map_err(|_| {
        Error::new(
            Kind::Credentials,
            "the spec's `auth` needs a value that the connection does not set",
        )
    })
}

pub(crate) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let wrong = |_| Error::input(format!("the header `{name}` cannot have this value"));
    let parsed = HeaderName::try_from(name)
        .map_err(|_| Error::input(format!("`{name}` is not a valid header name")))?;
    HeaderValue::try_from(value).map(|value| (parsed, value)).map_err(wrong)
}

fn check_url(base_url: &str) -> Result<()> {
    let url = Url::parse(base_url).map_err(|error| {
        Error::input(format!("the base URL `{base_url}` is not a URL")).because(error)
    })?;
    let web = matches!(url.scheme(), "http" | "https") && url.has_host();
    let bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if web && bare && url.password().is_none() {
        return Ok(());
    }
    Err(Error::input("the base URL must have the form `http(s)://host[/path]`"))
}
