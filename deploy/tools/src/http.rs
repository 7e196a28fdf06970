//! HTTP clients of these tools: one place that installs the TLS provider first.

/// A reqwest builder that can speak TLS.
pub fn client_builder() -> reqwest::ClientBuilder {
    // A second installation is refused, which is as good as the first.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    reqwest::Client::builder()
}

/// A client with the defaults.
///
/// # Errors
/// TLS cannot be set up.
pub fn client() -> reqwest::Result<reqwest::Client> {
    client_builder().build()
}
