/* What Win32-OpenSSH's server and WinRM do around a command without a terminal: `cmd.exe /c "<command>"`, the command as it came,
 * in a job that ends all of its processes when the session ends, and that lets a process break away. The command is in
 * the variable WINSH_COMMAND; without one a bare cmd.exe is started. WINSH_BREAKAWAY=no: nothing may break away. */
#include <windows.h>
#include <wchar.h>

/* cmd.exe takes no longer line. */
#define LONGEST 8191

static int fail(const char *what) {
    char text[120];
    DWORD written, length = wsprintfA(text, "winsh: %s: error %lu\r\n", what, GetLastError());
    WriteFile(GetStdHandle(STD_ERROR_HANDLE), text, length, &written, NULL);
    return 127;
}

int main(void) {
    static WCHAR command[LONGEST + 1], line[LONGEST + 64], shell[MAX_PATH];
    WCHAR breakaway[8];
    DWORD length = GetEnvironmentVariableW(L"WINSH_COMMAND", command, LONGEST + 1);
    if (length > LONGEST) {
        SetLastError(ERROR_FILENAME_EXCED_RANGE);
        return fail("the command line is too long");
    }
    GetSystemDirectoryW(shell, MAX_PATH);
    wcscat(shell, L"\\cmd.exe");
    wcscpy(line, L"\"");
    wcscat(line, shell);
    wcscat(line, L"\"");
    if (length) {
        wcscat(line, L" /c \"");
        wcscat(line, command);
        wcscat(line, L"\"");
    }
    SetEnvironmentVariableW(L"WINSH_COMMAND", NULL);

    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    if (!(GetEnvironmentVariableW(L"WINSH_BREAKAWAY", breakaway, 8) && !wcscmp(breakaway, L"no")))
        limits.BasicLimitInformation.LimitFlags |= JOB_OBJECT_LIMIT_BREAKAWAY_OK;
    HANDLE job = CreateJobObjectW(NULL, NULL);
    if (!job || !SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits))
        return fail("making a job");

    STARTUPINFOW how = {0};
    how.cb = sizeof how;
    how.dwFlags = STARTF_USESTDHANDLES;
    how.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
    how.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
    how.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    PROCESS_INFORMATION started;
    /* Suspended, so that it starts nothing before it is in the job. */
    if (!CreateProcessW(shell, line, NULL, NULL, TRUE, CREATE_SUSPENDED, NULL, NULL, &how, &started))
        return fail("starting cmd.exe");
    if (!AssignProcessToJobObject(job, started.hProcess)) {
        TerminateProcess(started.hProcess, 127);
        return fail("putting cmd.exe into the job");
    }
    ResumeThread(started.hThread);
    WaitForSingleObject(started.hProcess, INFINITE);
    DWORD code = 127;
    GetExitCodeProcess(started.hProcess, &code);
    /* The last handle of the job closes with this process. */
    return (int)code;
}
