//! The finished module, compiled once and linked to the host.

use std::path::Path;
use std::sync::Arc;

use wasmi::{AsContextMut, Caller, CompilationMode, Config, Engine, ExternType, Linker, Val};

use super::guest::{Args, Failed, Guest};
use super::state::State;
use super::{Call, Status, env, wasi};

/// A compiled module; a clone is the same one, and any number of instances on any threads can be made of it.
#[derive(Clone, Debug)]
pub struct Module(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    module: wasmi::Module,
    linker: Linker<State>,
}

impl Module {
    /// Reads and compiles a module file; fails the test when that cannot be done.
    pub fn load(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        Self::compile(&bytes)
    }

    /// Compiles a module, binary or text.
    pub fn compile(bytes: &[u8]) -> Self {
        let engine = Engine::new(Config::default().consume_fuel(true).compilation_mode(CompilationMode::Eager));
        let module = wasmi::Module::new(&engine, bytes)
            .unwrap_or_else(|error| panic!("not a module this host can run: {error}"));
        let mut linker = Linker::new(&engine);
        for import in module.imports() {
            let (space, name) = (import.module(), import.name());
            let ExternType::Func(kind) = import.ty() else {
                panic!("the module imports {space}.{name}, which is no function")
            };
            let (wasi, called) = (space.starts_with("wasi_"), name.to_owned());
            let host = move |caller: Caller<'_, State>, args: &[Val], results: &mut [Val]| {
                run(caller, wasi, &called, args, results)
            };
            linker
                .func_new(space, name, kind.clone(), host)
                .unwrap_or_else(|error| panic!("cannot link {space}.{name}: {error}"));
        }
        Self(Arc::new(Compiled { module, linker }))
    }

    /// The names of the functions that the module imports, sorted.
    pub fn imports(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.module.imports().map(|import| import.name().to_owned()).collect();
        names.sort();
        names
    }

    /// The names of everything that the module exports, sorted.
    pub fn exports(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.module.exports().map(|export| export.name().to_owned()).collect();
        names.sort();
        names
    }

    pub(super) fn engine(&self) -> &Engine {
        self.0.module.engine()
    }

    pub(super) fn instantiate(&self, store: impl AsContextMut<Data = State>) -> Result<wasmi::Instance, wasmi::Error> {
        self.0.linker.instantiate_and_start(store, &self.0.module)
    }
}

/// One host call: the hook first, then the call, then its recording.
fn run(
    mut caller: Caller<'_, State>,
    wasi: bool,
    name: &str,
    args: &[Val],
    results: &mut [Val],
) -> Result<(), wasmi::Error> {
    // Taken out meanwhile: the hook must not be able to reach itself.
    if let Some(mut on_call) = caller.data_mut().on_call.take() {
        on_call(name);
        caller.data_mut().on_call = Some(on_call);
    }
    let during = caller.data().during.clone();
    caller.data_mut().call = Call { name: name.to_owned(), args: String::new(), status: 0, returned_bytes: 0, during };
    let mut guest = Guest(&mut caller);
    let status =
        if wasi { wasi::call(&mut guest, name, Args(args))? } else { status(env::call(&mut guest, name, Args(args)))? };
    let state = caller.data_mut();
    state.call.status = status;
    let call = state.call.clone();
    state.seen.calls.push(call);
    if let Some(result) = results.first_mut() {
        *result = Val::I32(status.cast_signed());
    }
    Ok(())
}

fn status(answer: Result<(), Failed>) -> Result<u32, wasmi::Error> {
    match answer {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Failed::Status(status)) => Ok(status as u32),
        Err(Failed::Trap(trap)) => Err(trap),
    }
}
