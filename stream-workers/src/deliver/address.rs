//! Which addresses a destination may have. Checked where names resolve, on every new connection, so that
//! a name which changes its mind is caught as well.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses that are refused unless the operator allows them: the IANA special-purpose registries
/// (RFC 6890 and its updates), multicast, and the metadata services of clouds.
const REFUSED_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    // Azure's metadata and platform address, the one that lies in public space.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
];

/// Only global unicast, 2000::/3, is left open; of that these are refused.
const REFUSED_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48),
];

/// What the operator allows beyond public addresses.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    allowed: Arc<Vec<IpNet>>,
}

impl AddressPolicy {
    /// Reads a comma-separated list of networks, such as `127.0.0.0/8,::1/128`.
    ///
    /// # Errors
    /// An entry is not a network.
    pub fn parse(list: &str) -> anyhow::Result<Self> {
        let networks = list
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        let allowed = networks
            .map(|entry| {
                entry
                    .parse()
                    .with_context(|| format!("{entry:?} is not a network such as 10.0.0.0/8"))
            })
            .collect::<anyhow::Result<Vec<IpNet>>>()?;
        Ok(Self {
            allowed: Arc::new(allowed),
        })
    }

    /// Whether a destination may have this address.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        if self
            .allowed
            .iter()
            .any(|network| network.contains(&address))
        {
            return true;
        }
        match address {
            IpAddr::V4(v4) => is_public_v4(v4),
            IpAddr::V6(v6) => match embedded_v4(v6) {
                // Such an address reaches the IPv4 host that it names.
                Some(v4) => self.allows(IpAddr::V4(v4)),
                None => is_public_v6(v6),
            },
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !REFUSED_V4.iter().any(|(network, length)| {
        Ipv4Net::new(*network, *length).is_ok_and(|network| network.contains(&address))
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let global_unicast = address.segments()[0] & 0xe000 == 0x2000;
    global_unicast
        && !REFUSED_V6.iter().any(|(network, length)| {
            Ipv6Net::new(*network, *length).is_ok_and(|network| network.contains(&address))
        })
}

/// The IPv4 address inside a mapped (RFC 4291), NAT64 (RFC 6052, RFC 8215) or 6to4 (RFC 3056) address.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(join(high, low)),
        // The deprecated compatible form; :: and ::1 are themselves.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(join(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x64, 0xff9b, 1, _, _, _, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

/// A name that resolves to nothing a destination may have.
#[derive(Debug, thiserror::Error)]
#[error("{name} resolves to an address that is not allowed")]
pub struct AddressRefused {
    name: String,
}

/// Resolves through the system and passes on only what the policy allows.
#[derive(Debug, Clone)]
pub struct CheckedResolver(pub AddressPolicy);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found
                .filter(|address| policy.allows(address.ip()))
                .collect();
            if allowed.is_empty() {
                return Err(AddressRefused { name }.into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(policy: &AddressPolicy, address: &str) -> bool {
        policy.allows(address.parse().unwrap())
    }

    #[test]
    fn only_public_addresses_are_allowed() {
        let policy = AddressPolicy::default();
        for public in [
            "8.8.8.8",
            "1.1.1.1",
            "172.32.0.1",
            "2606:4700::1111",
            "2a00:1450::1",
        ] {
            assert!(allows(&policy, public), "{public}");
        }
        let refused = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001::1",
            "2001:db8::1",
        ];
        for private in refused {
            assert!(!allows(&policy, private), "{private}");
        }
    }

    #[test]
    fn the_operator_may_allow_more() {
        let policy = AddressPolicy::parse("127.0.0.0/8, ::1/128").unwrap();
        assert!(allows(&policy, "127.0.0.1") && allows(&policy, "::1"));
        assert!(
            allows(&policy, "::ffff:127.0.0.1"),
            "the same host in another notation"
        );
        assert!(!allows(&policy, "10.0.0.1"));
        assert!(AddressPolicy::parse("localhost").is_err());
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_private_address_is_refused() {
        let resolver = CheckedResolver(AddressPolicy::default());
        let refused = resolver.resolve("localhost".parse().unwrap()).await;
        let Err(error) = refused else {
            panic!("localhost was allowed")
        };
        assert!(error.downcast_ref::<AddressRefused>().is_some());
    }
}
