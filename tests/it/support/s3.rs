//! A bucket on a loopback socket that speaks as much of S3 as the files target needs.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What the bucket holds.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// Visible objects by key.
    pub(crate) objects: BTreeMap<String, Bytes>,
    /// Uploads neither completed nor given up: their pieces by number.
    pub(crate) uploads: HashMap<String, BTreeMap<u32, Bytes>>,
    /// Puts of objects and pieces that are still to be refused with 403.
    pub(crate) refusals: u32,
    /// Requests without a signature by the key `AKIDTEST`.
    pub(crate) unsigned: u32,
    begun: u32,
}

/// Serves the bucket `b` until the runtime ends; returns its endpoint.
pub(crate) async fn serve(bucket: Arc<Mutex<Bucket>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let bucket = Arc::clone(&bucket);
            let service = service_fn(move |request| answer(Arc::clone(&bucket), request));
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(socket), service));
        }
    });
    endpoint
}

async fn answer(
    bucket: Arc<Mutex<Bucket>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let query: HashMap<String, String> =
        url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let key = percent_encoding::percent_decode_str(head.uri.path()).decode_utf8_lossy();
    let key = key.strip_prefix("/b").unwrap_or_default().trim_start_matches('/').to_owned();
    let mut bucket = bucket.lock().unwrap();
    let signature = head.headers.get("authorization").and_then(|value| value.to_str().ok());
    let signed = "AWS4-HMAC-SHA256 Credential=AKIDTEST/";
    if !signature.is_some_and(|text| text.starts_with(signed) && text.contains("Signature=")) {
        bucket.unsigned += 1;
        return Ok(reply(StatusCode::FORBIDDEN, error("AccessDenied")));
    }
    let (status, text) = bucket.answer(&head.method, &key, &query, body);
    Ok(reply(status, text))
}

impl Bucket {
    fn answer(
        &mut self,
        method: &Method,
        key: &str,
        query: &HashMap<String, String>,
        body: Bytes,
    ) -> (StatusCode, Bytes) {
        if *method == Method::PUT && self.refusals > 0 {
            self.refusals -= 1;
            return (StatusCode::FORBIDDEN, error("AccessDenied"));
        }
        match (method.as_str(), query.get("uploadId")) {
            ("POST", None) if query.contains_key("uploads") => self.begin(key),
            ("POST", None) if query.contains_key("delete") => self.delete(&body),
            ("PUT", Some(id)) => {
                let number = query["partNumber"].parse().unwrap();
                self.uploads.get_mut(id).unwrap().insert(number, body);
                (StatusCode::OK, Bytes::new())
            }
            ("POST", Some(id)) => {
                let pieces = self.uploads.remove(id).unwrap();
                let whole: Vec<u8> = pieces.into_values().flatten().collect();
                self.objects.insert(key.to_owned(), whole.into());
                let text =
                    "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>";
                (StatusCode::OK, text.into())
            }
            ("DELETE", Some(id)) => {
                self.uploads.remove(id);
                (StatusCode::NO_CONTENT, Bytes::new())
            }
            ("PUT", None) => {
                self.objects.insert(key.to_owned(), body);
                (StatusCode::OK, Bytes::new())
            }
            ("GET", None) if query.contains_key("list-type") => self.list(&query["prefix"]),
            ("GET" | "HEAD", None) => match self.objects.get(key) {
                Some(object) => (StatusCode::OK, object.clone()),
                None => (StatusCode::NOT_FOUND, error("NoSuchKey")),
            },
            _ => (StatusCode::NOT_IMPLEMENTED, error("NotImplemented")),
        }
    }

    fn begin(&mut self, key: &str) -> (StatusCode, Bytes) {
        self.begun += 1;
        let id = format!("upload-{}", self.begun);
        let text = format!(
            "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>{key}</Key>\
             <UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        );
        self.uploads.insert(id, BTreeMap::new());
        (StatusCode::OK, text.into())
    }

    fn delete(&mut self, body: &Bytes) -> (StatusCode, Bytes) {
        let text = String::from_utf8_lossy(body);
        let mut result = String::from("<DeleteResult>");
        for part in text.split("<Key>").skip(1) {
            let key = part.split("</Key>").next().unwrap();
            self.objects.remove(key);
            result.push_str("<Deleted><Key>");
            result.push_str(key);
            result.push_str("</Key></Deleted>");
        }
        result.push_str("</DeleteResult>");
        (StatusCode::OK, result.into())
    }

    fn list(&self, prefix: &str) -> (StatusCode, Bytes) {
        let own = self.objects.iter().filter(|(key, _)| key.starts_with(prefix));
        let contents = own.map(|(key, object)| {
            let size = object.len();
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-12T09:30:11.000Z</LastModified>\
                 <ETag>e</ETag><Size>{size}</Size></Contents>"
            )
        });
        let contents: String = contents.collect();
        (StatusCode::OK, format!("<ListBucketResult>{contents}</ListBucketResult>").into())
    }
}

fn error(code: &str) -> Bytes {
    format!("<Error><Code>{code}</Code><Message>no</Message></Error>").into()
}

fn reply(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let response = Response::builder()
        .status(status)
        .header("etag", "\"e\"")
        .header("last-modified", "Mon, 12 Jan 2026 09:30:11 GMT");
    response.body(Full::new(body)).unwrap()
}
