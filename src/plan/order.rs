//! From "this needs that" to stages, and the name of the cycle where there is one.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::address::Address;

/// Resources that need each other in a circle.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("these resources need each other in a circle: {}", .0.iter().map(Address::to_string).collect::<Vec<_>>().join(" → "))]
pub struct Cycle(pub Vec<Address>);

/// Sorts into layers: everything in a layer needs only what is in earlier layers. Needs outside of the given set
/// are taken as met. Each layer is in address order, so the same input gives the same layers.
pub fn layers(needs: &BTreeMap<Address, BTreeSet<Address>>) -> Result<Vec<Vec<Address>>, Cycle> {
    let mut left: BTreeMap<&Address, BTreeSet<&Address>> = needs
        .iter()
        .map(|(address, wanted)| (address, wanted.iter().filter(|want| needs.contains_key(*want)).collect()))
        .collect();
    let mut layers = Vec::new();
    while !left.is_empty() {
        let ready: Vec<&Address> = left.iter().filter(|(_, wanted)| wanted.is_empty()).map(|(&a, _)| a).collect();
        if ready.is_empty() {
            return Err(Cycle(walk(&left)));
        }
        for address in &ready {
            left.remove(*address);
        }
        for wanted in left.values_mut() {
            wanted.retain(|want| !ready.contains(want));
        }
        layers.push(ready.into_iter().cloned().collect());
    }
    Ok(layers)
}

/// Follows needs from the first address until one repeats.
fn walk(left: &BTreeMap<&Address, BTreeSet<&Address>>) -> Vec<Address> {
    let mut path: Vec<&Address> = Vec::new();
    let mut here = *left.keys().next().expect("called only with something left");
    while !path.contains(&here) {
        path.push(here);
        here = left[here].iter().next().expect("nothing left is ready, so everything left needs something left");
    }
    let from = path.iter().position(|&address| address == here).expect("the walk ended on an address in the path");
    path[from..].iter().map(|&address| address.clone()).chain([here.clone()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> Address {
        Address::new("test.kind", name)
    }

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<Address, BTreeSet<Address>> {
        edges.iter().map(|(from, to)| (address(from), to.iter().map(|name| address(name)).collect())).collect()
    }

    #[test]
    fn sorts_into_layers() {
        let layers = layers(&graph(&[("c", &["a", "b"]), ("a", &[]), ("b", &["a"]), ("d", &["elsewhere"])]))
            .expect("there is no cycle");
        let names: Vec<Vec<&str>> = layers.iter().map(|l| l.iter().map(Address::name).collect()).collect();
        assert_eq!(names, [vec!["a", "d"], vec!["b"], vec!["c"]]);
    }

    #[test]
    fn names_the_cycle() {
        let error = layers(&graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])).expect_err("there is a cycle");
        assert_eq!(error.0, [address("b"), address("c"), address("b")]);
    }
}
