//! The call that makes a process, and what it is told.

use super::super::system::{raw, wide};
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Threading::{
    CREATE_UNICODE_ENVIRONMENT, CreateProcessAsUserW, CreateProcessW, DeleteProcThreadAttributeList,
    EXTENDED_STARTUPINFO_PRESENT, InitializeProcThreadAttributeList, PROC_THREAD_ATTRIBUTE_HANDLE_LIST,
    PROC_THREAD_ATTRIBUTE_JOB_LIST, PROCESS_INFORMATION, STARTF_USESTDHANDLES, STARTUPINFOEXW, UpdateProcThreadAttribute,
};

/// The desktop of a session that people see.
const DESKTOP: &str = "winsta0\\default";

/// What a new process is told.
pub(super) struct Creation<'a> {
    /// The interpreter of the line, where its first word is not the program's own.
    pub(super) application: Option<&'a Path>,
    pub(super) line: &'a str,
    pub(super) folder: Option<&'a Path>,
    /// Its variables, as [`Environment::block`](super::Environment::block) makes them; those of this process without.
    pub(super) block: Option<&'a [u16]>,
    /// CREATE_... and others.
    pub(super) flags: u32,
    /// In whose session it runs; the agent's own without.
    pub(super) token: Option<&'a OwnedHandle>,
    /// Standard input, output and error: the only handles that it inherits.
    pub(super) streams: Option<&'a [OwnedHandle; 3]>,
    /// What it is in from its first moment, so that it ends with the job whatever becomes of this process.
    pub(super) job: Option<&'a OwnedHandle>,
}

/// A process that was made.
pub(super) struct Created {
    pub(super) process: OwnedHandle,
    pub(super) pid: u32,
}

impl Creation<'_> {
    /// Makes it, once.
    ///
    /// # Errors
    /// The system's own, as it is: some pass.
    pub(super) fn create(&self) -> io::Result<Created> {
        let mut line = wide(self.line);
        let application = self.application.map(wide);
        let folder = self.folder.map(wide);
        let mut desktop = wide(DESKTOP);
        let handles: Vec<HANDLE> = self.streams.into_iter().flatten().map(AsRawHandle::as_raw_handle).collect();
        let jobs: Vec<HANDLE> = self.job.into_iter().map(AsRawHandle::as_raw_handle).collect();
        let lists = [(PROC_THREAD_ATTRIBUTE_HANDLE_LIST, handles.as_slice()), (PROC_THREAD_ATTRIBUTE_JOB_LIST, &jobs)];
        let attributes = Attributes::of(&lists)?;
        // SAFETY: a plain structure, for which all zeros are a value.
        let mut start: STARTUPINFOEXW = unsafe { std::mem::zeroed() };
        let mut flags = self.flags | CREATE_UNICODE_ENVIRONMENT;
        start.StartupInfo.cb = size_of_val(&start.StartupInfo) as u32;
        if let Some(attributes) = &attributes {
            flags |= EXTENDED_STARTUPINFO_PRESENT;
            start.StartupInfo.cb = size_of_val(&start) as u32;
            start.lpAttributeList = attributes.list();
        }
        if let [input, output, errors] = handles[..] {
            start.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
            [start.StartupInfo.hStdInput, start.StartupInfo.hStdOutput, start.StartupInfo.hStdError] = [input, output, errors];
        }
        if self.token.is_some() {
            start.StartupInfo.lpDesktop = desktop.as_mut_ptr();
        }
        let none = std::ptr::null();
        let inherit = i32::from(self.streams.is_some());
        let application = application.as_ref().map_or(std::ptr::null(), Vec::as_ptr);
        let folder = folder.as_ref().map_or(std::ptr::null(), Vec::as_ptr);
        let block = self.block.map_or(std::ptr::null(), |block| block.as_ptr().cast());
        let info = &raw const start.StartupInfo;
        // SAFETY: a plain structure, for which all zeros are a value.
        let mut made: PROCESS_INFORMATION = unsafe { std::mem::zeroed() };
        let (line, made_at) = (line.as_mut_ptr(), &raw mut made);
        // SAFETY: all texts end with a zero and live through the call; the line may be written to; block, attributes and handles
        // live through it as well; the start information is the one that the flags say.
        let created = unsafe {
            match self.token.map(raw) {
                None => CreateProcessW(application, line, none, none, inherit, flags, block, folder, info, made_at),
                Some(token) => {
                    CreateProcessAsUserW(token, application, line, none, none, inherit, flags, block, folder, info, made_at)
                }
            }
        };
        if created == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: two fresh handles that nobody else closes.
        let (process, thread) =
            unsafe { (OwnedHandle::from_raw_handle(made.hProcess), OwnedHandle::from_raw_handle(made.hThread)) };
        drop(thread);
        Ok(Created { process, pid: made.dwProcessId })
    }
}

/// Lists of handles that a new process is given.
struct Attributes<'a> {
    buffer: Vec<u64>,
    handles: std::marker::PhantomData<&'a [HANDLE]>,
}

impl<'a> Attributes<'a> {
    /// Lists, each with what it is for; an empty one is left out, and where all are there is nothing.
    fn of(lists: &[(u32, &'a [HANDLE])]) -> io::Result<Option<Self>> {
        let lists = || lists.iter().filter(|(_, handles)| !handles.is_empty());
        let count = lists().count() as u32;
        if count == 0 {
            return Ok(None);
        }
        let mut size = 0;
        // SAFETY: without a place, only the size is written; the call says that it failed.
        unsafe { InitializeProcThreadAttributeList(std::ptr::null_mut(), count, 0, &raw mut size) };
        let mut made = Self { buffer: vec![0; size.div_ceil(8).max(1)], handles: std::marker::PhantomData };
        // SAFETY: the place is as long as the system wants it.
        if unsafe { InitializeProcThreadAttributeList(made.buffer.as_mut_ptr().cast(), count, 0, &raw mut size) } == 0 {
            // Not initialised: nothing to delete.
            made.buffer.clear();
            return Err(io::Error::last_os_error());
        }
        for (attribute, handles) in lists() {
            let (attribute, place, bytes) = (*attribute as usize, handles.as_ptr().cast(), size_of_val(*handles));
            let (none, nothing) = (std::ptr::null_mut(), std::ptr::null());
            // SAFETY: the list is initialised for so many; it keeps the address of the handles, which live as long as it does.
            let done = unsafe { UpdateProcThreadAttribute(made.list(), 0, attribute, place, bytes, none, nothing) };
            if done == 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Some(made))
    }

    fn list(&self) -> *mut core::ffi::c_void {
        self.buffer.as_ptr().cast_mut().cast()
    }
}

impl Drop for Attributes<'_> {
    fn drop(&mut self) {
        if !self.buffer.is_empty() {
            // SAFETY: it was initialised, and is deleted once.
            unsafe { DeleteProcThreadAttributeList(self.list()) };
        }
    }
}
