/* Wine's cmd.exe takes a line that begins with `start_ibex_server.bat` for its command `start` with the word `_ibex_server.bat`, which
 * Windows does not. This stands in the place of start.exe, which that command calls: such a word is the rest of a batch file's
 * name, and everything else is Wine's own start.exe's affair (start-wine.exe beside it). */
#include <windows.h>
#include <wchar.h>

#define LONGEST 8191

/* The command line behind the program's own name. */
static const wchar_t *arguments(void) {
    const wchar_t *line = GetCommandLineW();
    int quoted = 0;
    for (; *line && (quoted || (*line != L' ' && *line != L'\t')); line++)
        quoted ^= *line == L'"';
    while (*line == L' ' || *line == L'\t')
        line++;
    return line;
}

int main(void) {
    static wchar_t line[LONGEST + MAX_PATH + 32], folder[MAX_PATH];
    const wchar_t *rest = arguments();
    if (wcslen(rest) > LONGEST)
        return 1;
    GetSystemDirectoryW(folder, MAX_PATH);
    wcscpy(line, L"\"");
    wcscat(line, folder);
    if (*rest == L'_') {
        wcscat(line, L"\\cmd.exe\" /d /s /c \".\\start");
        wcscat(line, rest);
        wcscat(line, L"\"");
    } else {
        wcscat(line, L"\\start-wine.exe\" ");
        wcscat(line, rest);
    }
    STARTUPINFOW how = {0};
    how.cb = sizeof how;
    PROCESS_INFORMATION started;
    if (!CreateProcessW(NULL, line, NULL, NULL, TRUE, 0, NULL, NULL, &how, &started))
        return 9009;
    DWORD code = 1;
    WaitForSingleObject(started.hProcess, INFINITE);
    GetExitCodeProcess(started.hProcess, &code);
    return (int)code;
}
