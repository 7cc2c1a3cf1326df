//! Who may ask the server.
//!
//! Owns the checks that stand before every route: the name by which the server was called (against
//! DNS rebinding), the token where there is one, and where a write comes from (against requests of
//! other sites). What is refused reaches no route.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use sha2::{Digest as _, Sha256};

const COOKIE: &str = "tribunal_token";

/// Headers of every answer. A page replaces the policy with its own.
const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// The checks of one server.
#[derive(Clone, Debug)]
pub struct Guard {
    addr: SocketAddr,
    /// The hash of the token, so that comparing takes the same time whatever is wrong.
    token: Option<[u8; 32]>,
}

/// An address that others can reach needs a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{addr} can be reached from other machines: that needs a token, or listen on 127.0.0.1 and \
     forward a port"
)]
pub struct TokenNeeded {
    /// The address.
    pub addr: SocketAddr,
}

// === impl Guard ===

impl Guard {
    /// The guard of a server that listens at `addr`.
    ///
    /// # Errors
    ///
    /// The address is not loopback and there is no token.
    pub fn new(addr: SocketAddr, token: Option<&str>) -> Result<Guard, TokenNeeded> {
        let token = token.map(hash);
        if token.is_none() && !addr.ip().is_loopback() {
            return Err(TokenNeeded { addr });
        }
        Ok(Guard { addr, token })
    }

    /// Whether the server may be called by this name. One that needs a token may be called by any:
    /// a site that makes its own name point here has no token for that name.
    fn knows_host(&self, host: Option<&str>) -> bool {
        let Some(host) = host else { return false };
        if self.token.is_some() {
            return true;
        }
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, port),
            _ => (host, "80"),
        };
        let names = ["localhost", "127.0.0.1", "[::1]"];
        let known = names.contains(&name) || *name == self.addr.ip().to_string();
        known && port.parse() == Ok(self.addr.port())
    }

    fn knows_token(&self, token: Option<&str>) -> bool {
        self.token.is_none_or(|known| token.is_some_and(|token| hash(token) == known))
    }

    /// Why this request is refused.
    fn refusal(&self, method: &Method, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
        let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
        let host = text(header::HOST);
        if !self.knows_host(host) {
            return Some((StatusCode::MISDIRECTED_REQUEST, "this server has another name"));
        }
        if !self.knows_token(sent_token(headers)) {
            return Some((
                StatusCode::UNAUTHORIZED,
                "a token is needed: open the address that `tribunal serve` printed",
            ));
        }
        let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
        let navigates = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
        let foreign = site.is_some_and(|site| site == "cross-site" || site == "same-site");
        if method == Method::GET || method == Method::HEAD {
            // A link on another page may lead here; its scripts and images may not.
            let refused = foreign && !navigates;
            return refused
                .then_some((StatusCode::FORBIDDEN, "requests of other sites are refused"));
        }
        let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
        let own = origin.is_some_and(|(_, name)| Some(name) == host);
        if foreign || !own {
            return Some((
                StatusCode::FORBIDDEN,
                "writes are taken from this server's pages alone",
            ));
        }
        let json = text(header::CONTENT_TYPE).is_some_and(|t| t.starts_with("application/json"));
        (!json).then_some((StatusCode::UNSUPPORTED_MEDIA_TYPE, "writes are JSON"))
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The token that the request carries: as a cookie, or as a bearer's.
fn sent_token(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(token) = bearer.and_then(|value| value.strip_prefix("Bearer ")) {
        return Some(token);
    }
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, token)| token)
}

/// Lets a request through to its route, or refuses it.
pub(super) async fn check(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match login(&guard, &request) {
        Some(response) => response,
        None => match guard.refusal(request.method(), request.headers()) {
            Some(refused) => refused.into_response(),
            None => next.run(request).await,
        },
    };
    for (name, value) in HEADERS {
        let headers = response.headers_mut();
        if !headers.contains_key(name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// `/?token=…`, once: the token becomes a cookie that no other site can send, and leaves the
/// address.
fn login(guard: &Guard, request: &Request) -> Option<Response> {
    guard.token?;
    let token = request.uri().query()?.strip_prefix("token=")?;
    if request.uri().path() != "/" || !guard.knows_token(Some(token)) {
        return None;
    }
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict");
    let mut response = Redirect::to("/").into_response();
    response.headers_mut().insert(header::SET_COOKIE, HeaderValue::from_str(&cookie).ok()?);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn refusal(guard: &Guard, method: Method, sent: &[(&'static str, &str)]) -> Option<u16> {
        let headers = sent.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        guard.refusal(&method, &headers.collect()).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn another_address_needs_a_token() {
        let open: SocketAddr = "0.0.0.0:8080".parse().unwrap();
        assert_eq!(Guard::new(open, None).unwrap_err(), TokenNeeded { addr: open });
        assert!(Guard::new(open, Some(TOKEN)).is_ok());
        assert!(Guard::new("[::1]:8080".parse().unwrap(), None).is_ok());
    }

    #[test]
    fn only_its_own_names_and_pages_are_heard() {
        let guard = Guard::new("127.0.0.1:8080".parse().unwrap(), None).unwrap();
        let get = |sent: &[(&'static str, &str)]| refusal(&guard, Method::GET, sent);
        for host in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"] {
            assert_eq!(get(&[("host", host)]), None, "{host}");
        }
        for host in ["evil.example:8080", "127.0.0.1", "127.0.0.1:81", "localhost.evil:8080", ""] {
            assert_eq!(get(&[("host", host)]), Some(421), "{host}");
        }
        assert_eq!(get(&[]), Some(421));
        let host = ("host", "localhost:8080");
        assert_eq!(get(&[host, ("sec-fetch-site", "cross-site")]), Some(403));
        let navigates = ("sec-fetch-mode", "navigate");
        assert_eq!(get(&[host, ("sec-fetch-site", "cross-site"), navigates]), None);

        let post = |sent: &[(&'static str, &str)]| refusal(&guard, Method::POST, sent);
        let json = ("content-type", "application/json");
        assert_eq!(post(&[host, json, ("origin", "http://localhost:8080")]), None);
        assert_eq!(post(&[host, json]), Some(403));
        assert_eq!(post(&[host, json, ("origin", "http://evil.example")]), Some(403));
        assert_eq!(post(&[host, json, ("origin", "null")]), Some(403));
        let text = ("content-type", "text/plain");
        assert_eq!(post(&[host, text, ("origin", "http://localhost:8080")]), Some(415));
    }

    #[test]
    fn a_token_is_asked_for() {
        let guard = Guard::new("0.0.0.0:8080".parse().unwrap(), Some(TOKEN)).unwrap();
        let host = ("host", "grader.example:8080");
        let get = |sent: &[(&'static str, &str)]| refusal(&guard, Method::GET, sent);
        assert_eq!(get(&[host]), Some(401));
        assert_eq!(get(&[host, ("cookie", "tribunal_token=wrong")]), Some(401));
        assert_eq!(get(&[host, ("authorization", &format!("Bearer {TOKEN}"))]), None);
        assert_eq!(get(&[host, ("cookie", &format!("a=b; tribunal_token={TOKEN}"))]), None);
    }
}
