//! A golden file: stage outputs of an independent implementation, and what was compared with them.

use burn::tensor::{DType, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

/// One `IMAGE.MODE[.TAG].safetensors` file.
pub struct Golden {
    pub name: String,
    pub meta: HashMap<String, String>,
    values: BTreeMap<String, Values>,
}

/// One array of a golden.
#[derive(Clone)]
pub struct Values {
    pub shape: Vec<usize>,
    pub data: Data,
}

#[derive(Clone)]
pub enum Data {
    F32(Vec<f32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
}

impl Golden {
    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let values = file.iter().map(|(name, view)| {
            let data = match view.dtype() {
                Dtype::F32 => Data::F32(view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
                Dtype::I64 => Data::I64(view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
                Dtype::U8 => Data::U8(view.data().to_vec()),
                other => panic!("{}: {name} has type {other:?}", path.display()),
            };
            (name.to_owned(), Values { shape: view.shape().to_vec(), data })
        });
        Self {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            meta: header.metadata().clone().unwrap_or_default(),
            values: values.collect(),
        }
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    pub fn get(&self, key: &str) -> Option<&Values> {
        self.values.get(key)
    }

    pub fn f32s(&self, key: &str) -> Option<&[f32]> {
        match &self.values.get(key)?.data {
            Data::F32(values) => Some(values),
            _ => panic!("{key} is not f32"),
        }
    }

    pub fn i64s(&self, key: &str) -> Option<&[i64]> {
        match &self.values.get(key)?.data {
            Data::I64(values) => Some(values),
            _ => panic!("{key} is not i64"),
        }
    }

    pub fn u8s(&self, key: &str) -> Option<&[u8]> {
        match &self.values.get(key)?.data {
            Data::U8(values) => Some(values),
            _ => panic!("{key} is not u8"),
        }
    }
}

/// What was compared, and what was not equal.
#[derive(Default)]
pub struct Report {
    compared: BTreeSet<String>,
    failures: Vec<String>,
}

impl Report {
    /// Compares a float stage: every element within `1e-4 + 1e-4 * max|golden|`. Keys that the golden lacks are skipped.
    pub fn close<const D: usize>(&mut self, golden: &Golden, key: &str, actual: Tensor<D>) {
        let Some(expected) = golden.f32s(key) else { return };
        let shape = golden.get(key).unwrap().shape.clone();
        let data: TensorData = actual.into_data().convert_dtype(DType::F32);
        let actual = data.try_to_vec::<f32>().unwrap();
        if actual.len() != expected.len() {
            let found = data.shape().to_vec();
            self.seen(golden, key, Err(format!("shape {found:?}, expected {shape:?}")));
            return;
        }
        self.close_values(golden, key, &actual);
    }

    /// As [`close`](Self::close), for values on the host.
    pub fn close_values(&mut self, golden: &Golden, key: &str, actual: &[f32]) {
        let Some(expected) = golden.f32s(key) else { return };
        assert_eq!(actual.len(), expected.len(), "{}: {key}", golden.name);
        let scale = expected.iter().filter(|v| v.is_finite()).fold(0f32, |m, v| m.max(v.abs()));
        let (mut worst, mut at) = (0f32, 0);
        for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
            let difference = if a == e { 0.0 } else { (a - e).abs() };
            let difference = if difference.is_nan() { f32::INFINITY } else { difference };
            if difference > worst {
                (worst, at) = (difference, i);
            }
        }
        let tolerance = tolerance() * (1.0 + scale);
        let detail = format!("max |difference| {worst:.2e} at {at} of {}, tolerance {tolerance:.2e}", expected.len());
        self.seen(golden, key, if worst <= tolerance { Ok(detail) } else { Err(detail) });
    }

    /// Compares anything that must be equal.
    pub fn equal<T: PartialEq + std::fmt::Debug>(&mut self, golden: &Golden, key: &str, actual: &[T], expected: &[T]) {
        let first = actual.iter().zip(expected).position(|(a, e)| a != e);
        let result = match first {
            _ if actual.len() != expected.len() => Err(format!("{} values, expected {}", actual.len(), expected.len())),
            Some(i) => {
                let different = actual.iter().zip(expected).filter(|(a, e)| a != e).count();
                Err(format!("{different} differ, first at {i}: {:?}, expected {:?}", actual[i], expected[i]))
            }
            None => Ok(format!("{} equal", expected.len())),
        };
        self.seen(golden, key, result);
    }

    /// Records a comparison made elsewhere.
    pub fn seen(&mut self, golden: &Golden, key: &str, result: Result<String, String>) {
        self.compared.insert(format!("{}/{key}", golden.name));
        let (mark, detail) = match &result {
            Ok(detail) => ("ok  ", detail),
            Err(detail) => ("FAIL", detail),
        };
        println!("{mark} {:28} {key:36} {detail}", golden.name);
        if let Err(detail) = result {
            self.failures.push(format!("{}/{key}: {detail}", golden.name));
        }
    }

    /// Fails the test if a stage differed, or if a key of `golden` was never compared.
    pub fn finish(self, goldens: &[Golden]) {
        let keys = goldens.iter().flat_map(|golden| golden.keys().map(move |key| format!("{}/{key}", golden.name)));
        let missed: Vec<_> = keys.filter(|key| !self.compared.contains(key)).collect();
        println!("{} stages compared, {} failed", self.compared.len(), self.failures.len());
        assert!(!self.compared.is_empty(), "nothing was compared");
        assert!(missed.is_empty(), "keys that no check knows: {missed:#?}");
        assert!(self.failures.is_empty(), "{:#?}", self.failures);
    }
}

fn tolerance() -> f32 {
    1e-4
}
