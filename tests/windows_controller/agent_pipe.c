/* The SSH agent of Windows, as ibexdeploy sees it: the named pipe of the service ssh-agent. What comes through it goes to a
   TCP port of this machine, behind which a real ssh-agent answers. Usage: agent_pipe.exe PORT. Says "ready" once the pipe is there. */
#include <winsock2.h>
#include <windows.h>
#include <stdio.h>
#include <stdlib.h>

#define LONGEST (256 * 1024)

static int read_pipe(HANDLE pipe, char *to, DWORD length) {
  DWORD done;
  for (; length > 0; to += done, length -= done)
    if (!ReadFile(pipe, to, length, &done, NULL) || done == 0) return 0;
  return 1;
}

static int write_pipe(HANDLE pipe, const char *from, DWORD length) {
  DWORD done;
  for (; length > 0; from += done, length -= done)
    if (!WriteFile(pipe, from, length, &done, NULL)) return 0;
  return 1;
}

static int receive(SOCKET agent, char *to, int length) {
  int done;
  for (; length > 0; to += done, length -= done)
    if ((done = recv(agent, to, length, 0)) <= 0) return 0;
  return 1;
}

/* The length of a message stands before it, the highest byte first. */
static unsigned long length_of(const char *head) {
  const unsigned char *bytes = (const unsigned char *)head;
  return (unsigned long)bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
}

/* Each request has one answer. */
static void serve(HANDLE pipe, SOCKET agent, char *message) {
  while (read_pipe(pipe, message, 4)) {
    unsigned long length = length_of(message);
    if (length > LONGEST - 4 || !read_pipe(pipe, message + 4, length)) return;
    if (send(agent, message, 4 + length, 0) != (int)(4 + length) || !receive(agent, message, 4)) return;
    length = length_of(message);
    if (length > LONGEST - 4 || !receive(agent, message + 4, length)) return;
    if (!write_pipe(pipe, message, 4 + length)) return;
  }
}

int main(int count, char **arguments) {
  static char message[LONGEST];
  WSADATA data;
  if (count != 2 || WSAStartup(MAKEWORD(2, 2), &data) != 0) return 2;
  HANDLE pipe = CreateNamedPipeA("\\\\.\\pipe\\openssh-ssh-agent", PIPE_ACCESS_DUPLEX, PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT,
                                 PIPE_UNLIMITED_INSTANCES, 65536, 65536, 0, NULL);
  if (pipe == INVALID_HANDLE_VALUE) return 3;
  puts("ready");
  fflush(stdout);
  for (;;) {
    if (!ConnectNamedPipe(pipe, NULL) && GetLastError() != ERROR_PIPE_CONNECTED) return 4;
    struct sockaddr_in place = {0};
    place.sin_family = AF_INET;
    place.sin_port = htons((unsigned short)atoi(arguments[1]));
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SOCKET agent = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(agent, (struct sockaddr *)&place, sizeof place) == 0) serve(pipe, agent, message);
    closesocket(agent);
    DisconnectNamedPipe(pipe);
  }
}
