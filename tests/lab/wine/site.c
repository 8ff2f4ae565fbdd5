/* Plays the site's programs on a Windows machine of the tests, by the name it is started under:
 *   ibex_server   stands for the running server: waits to be ended
 *   caget         answers for the variables that IBEX always has, while ibex_server runs
 *   uv            `venv` makes a folder .venv, `pip sync` writes what it was asked for into it
 *   vc_redist     returns before it has finished, as the real one; the end of its log tells */
#include <windows.h>
#include <tlhelp32.h>
#include <stdio.h>
#include <wchar.h>

static int server_runs(void) {
    PROCESSENTRY32W entry = {.dwSize = sizeof entry};
    HANDLE list = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
    int found = 0;
    for (BOOL more = Process32FirstW(list, &entry); more && !found; more = Process32NextW(list, &entry))
        found = !_wcsicmp(entry.szExeFile, L"ibex_server.exe");
    CloseHandle(list);
    return found;
}

static int ends_with(const wchar_t *text, const wchar_t *end) {
    size_t length = wcslen(text), wanted = wcslen(end);
    return length >= wanted && !wcscmp(text + length - wanted, end);
}

/* A process that is ended is there for a moment longer. */
static int server_is_gone(void) {
    for (int left = 200; left && server_runs(); left--)
        Sleep(50);
    return !server_runs();
}

/* caget [-S] [-w SECONDS] NAME...: lines of name and value. caget --gone: waits until the server has ended. */
static int caget(int count, wchar_t **words) {
    if (count == 2 && !wcscmp(words[1], L"--gone"))
        return !server_is_gone();
    int code = 0, up = server_runs();
    for (int i = 1; i < count; i++) {
        const wchar_t *name = words[i], *value = NULL;
        if (!wcscmp(name, L"-w") || !wcscmp(name, L"-p") || !wcscmp(name, L"-F")) {
            i++;
            continue;
        }
        if (name[0] == L'-')
            continue;
        if (up && ends_with(name, L":DAE:RUNSTATE_STR"))
            value = L"SETUP";
        if (up && ends_with(name, L":BLOCKSERVER:SERVER_STATUS"))
            value = L"{\"status\": \"\"}";
        if (value)
            wprintf(L"%ls %ls\n", name, value);
        else {
            wprintf(L"%ls *** Not connected (PV not found)\n", name);
            code = 1;
        }
    }
    return code;
}

static int write_text(const wchar_t *path, const char *text) {
    FILE *file = _wfopen(path, L"ab");
    if (!file)
        return 1;
    fputs(text, file);
    return fclose(file) != 0;
}

static int uv(int count, wchar_t **words) {
    if (count > 1 && !wcscmp(words[1], L"venv")) {
        CreateDirectoryW(L".venv", NULL);
        DeleteFileW(L".venv\\pyvenv.cfg");
        return write_text(L".venv\\pyvenv.cfg", "home = C:\\Instrument\\Apps\\Python3\r\n");
    }
    if (count > 3 && !wcscmp(words[1], L"pip") && !wcscmp(words[2], L"sync"))
        return !CopyFileW(words[3], L".venv\\installed.txt", FALSE);
    fputs("uv: only `venv` and `pip sync` are played here\n", stderr);
    return 2;
}

/* Without a log it is the second part, which the first one has started. */
static int vc_redist(int count, wchar_t **words) {
    const wchar_t *log = NULL;
    for (int i = 1; i + 1 < count; i++)
        if (!wcscmp(words[i], L"/log"))
            log = words[i + 1];
    if (!log && count == 3 && !wcscmp(words[1], L"/second")) {
        Sleep(200);
        return write_text(words[2], "Exit code: 0x0, Restarting: No\r\n");
    }
    if (!log)
        return 1638;
    DeleteFileW(log);
    if (write_text(log, "Applying\r\n"))
        return 1603;
    wchar_t self[MAX_PATH], line[2 * MAX_PATH + 40];
    GetModuleFileNameW(NULL, self, MAX_PATH);
    swprintf(line, 2 * MAX_PATH + 40, L"\"%ls\" /second \"%ls\"", self, log);
    STARTUPINFOW how = {.cb = sizeof how};
    PROCESS_INFORMATION started;
    return CreateProcessW(NULL, line, NULL, NULL, FALSE, DETACHED_PROCESS, NULL, NULL, &how, &started) ? 0 : 1603;
}

int wmain(int count, wchar_t **words) {
    wchar_t self[MAX_PATH];
    GetModuleFileNameW(NULL, self, MAX_PATH);
    const wchar_t *name = wcsrchr(self, L'\\');
    name = name ? name + 1 : self;
    if (!_wcsnicmp(name, L"ibex_server", 11)) {
        /* Not for good, should everybody forget it. */
        Sleep(2 * 3600 * 1000);
        return 0;
    }
    if (!_wcsnicmp(name, L"caget", 5))
        return caget(count, words);
    if (!_wcsnicmp(name, L"uv", 2))
        return uv(count, words);
    if (!_wcsnicmp(name, L"vc_redist", 9))
        return vc_redist(count, words);
    fputs("site: started under a name that it does not play\n", stderr);
    return 2;
}
