/* A service of the tests, in the place of one of the site's: runs until it is asked to stop, and writes the version that it was
 * compiled with (VERSION) into the file that its command line names. While there is a file of that name with `.deaf` behind it, it does
 * not stop. Compiled with BROKEN, it ends as soon as it is started. */
#include <windows.h>
#include <stdio.h>
#include <wchar.h>

static SERVICE_STATUS_HANDLE manager;
static HANDLE stop;
static const wchar_t *file;

static void tell(DWORD state, DWORD code) {
    SERVICE_STATUS status = {
        .dwServiceType = SERVICE_WIN32_OWN_PROCESS,
        .dwCurrentState = state,
        .dwControlsAccepted = state == SERVICE_RUNNING ? SERVICE_ACCEPT_STOP : 0,
        .dwWin32ExitCode = code,
    };
    SetServiceStatus(manager, &status);
}

static int is_deaf(void) {
    wchar_t path[MAX_PATH];
    if (swprintf(path, MAX_PATH, L"%ls.deaf", file) < 0)
        return 0;
    return GetFileAttributesW(path) != INVALID_FILE_ATTRIBUTES;
}

static DWORD WINAPI asked(DWORD control, DWORD type, void *event, void *context) {
    (void)type, (void)event, (void)context;
    if (control == SERVICE_CONTROL_INTERROGATE)
        return NO_ERROR;
    if (control != SERVICE_CONTROL_STOP)
        return ERROR_CALL_NOT_IMPLEMENTED;
    tell(SERVICE_STOP_PENDING, NO_ERROR);
    if (!is_deaf())
        SetEvent(stop);
    return NO_ERROR;
}

static int write_version(void) {
    FILE *to = _wfopen(file, L"wb");
    if (!to)
        return 0;
    fputs(VERSION "\r\n", to);
    return fclose(to) == 0;
}

static void WINAPI work(DWORD count, wchar_t **words) {
    manager = RegisterServiceCtrlHandlerExW(count ? words[0] : L"", asked, NULL);
    stop = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (!manager || !stop)
        return;
#ifdef BROKEN
    tell(SERVICE_STOPPED, ERROR_FILE_CORRUPT);
    return;
#endif
    if (!write_version()) {
        tell(SERVICE_STOPPED, ERROR_WRITE_FAULT);
        return;
    }
    tell(SERVICE_RUNNING, NO_ERROR);
    WaitForSingleObject(stop, INFINITE);
    tell(SERVICE_STOPPED, NO_ERROR);
}

int wmain(int count, wchar_t **words) {
    static wchar_t none[] = L"";
    SERVICE_TABLE_ENTRYW table[] = {{none, work}, {NULL, NULL}};
    if (count != 2) {
        fputs("service: the file for the version is missing\n", stderr);
        return 2;
    }
    file = words[1];
    return StartServiceCtrlDispatcherW(table) ? 0 : 1;
}
