//! Named access to APIs, databases and stores: where connections come from and what they hold.
