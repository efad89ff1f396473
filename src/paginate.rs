//! How the page after this one is asked for: a function of the request and the response.
