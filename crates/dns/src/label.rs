//! Label of a DNS name from any text, as DC/OS makes it.
