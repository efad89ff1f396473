//! The origins to which a spec sends requests, and with them the connection's values.

use std::{collections::BTreeSet, sync::Arc};

use crate::http::exchange::Url;
use crate::spec::{Fields, Spec};
use crate::template::{Scope, Template};

/// The origins to which a spec may send requests under any condition: the API, the token servers,
/// and the lookups. If the connection lacks a value of an origin, the template as written.
pub fn origins(spec: &Spec, fields: &Fields) -> BTreeSet<String> {
    let scope = Arc::new(Scope::new(fields.variables()));
    let oauth2 = spec.auth.0.iter().filter_map(|choice| choice.oauth2.as_ref());
    let tokens = oauth2.flat_map(|one| [Some(&one.token_url), one.device_url.as_ref()]).flatten();
    let lookups = spec.connection.values().filter_map(|field| Some(&field.lookup.as_ref()?.get));
    let urls = spec.base_url.0.iter().map(|choice| &choice.url).chain(tokens).chain(lookups);
    urls.map(|template| {
        let url = Template::parse(template).and_then(|template| template.render(&scope));
        let url = url.ok().and_then(|url| Url::parse(&url).ok()).filter(Url::has_host);
        url.map_or_else(|| template.clone(), |url| url.origin().ascii_serialization())
    })
    .collect()
}

/// Whether an origin is this machine.
pub fn is_loopback(origin: &str) -> bool {
    let Ok(url) = Url::parse(origin) else { return false };
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_places_are_told_that_a_spec_may_send_to() {
        let spec = Spec::load(
            "shop.yaml",
            "
name: shop
connection:
  domain: { help: a domain }
  site: { help: a site, lookup: { get: 'https://{{ domain }}/site', at: id } }
base_url:
  - { when: domain, url: 'https://{{ domain }}/v1' }
  - { url: 'https://api.collect.test' }
auth: { oauth2: { grant: client_credentials, token_url: 'https://tokens.test:444/x', client_id: a, client_secret: b } }
test: { get: /ping }
streams:
  orders: { doc: An order., get: /orders, key: [id], columns: { id: int } }
",
        )
        .unwrap();
        let mut fields = Fields::default();
        let found = |fields: &Fields| origins(&spec, fields).into_iter().collect::<Vec<_>>();
        let fixed = ["https://api.collect.test", "https://tokens.test:444"];
        let open = ["https://{{ domain }}/site", "https://{{ domain }}/v1"];
        assert_eq!(found(&fields), [&fixed[..], &open].concat());
        fields.open.insert("domain".to_owned(), "acme.test".to_owned());
        let acme = ["https://acme.test", "https://api.collect.test", "https://tokens.test:444"];
        assert_eq!(found(&fields), acme);
    }

    #[test]
    fn this_machine_is_told_from_others() {
        for own in ["http://127.0.0.1:80", "http://localhost:1", "https://[::1]"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in ["https://localhost.test", "http://10.0.0.1", "https://{{ a }}", "127.0.0.1"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
