//! When the next request may be sent: rate, requests under way, pauses the server asked for.
