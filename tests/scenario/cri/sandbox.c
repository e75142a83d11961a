// What runs in a sandbox: answers every TCP connection to port 8080, both families, with one line of HTTP.
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char ANSWER[] = "HTTP/1.0 200 OK\r\n\r\nsandbox\n";

int main(void)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(8080)};
    int listener = socket(AF_INET6, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 64))
        return 1;
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            continue;
        char request[4096];
        if (read(connection, request, sizeof(request)) > 0 && write(connection, ANSWER, strlen(ANSWER)) < 0)
            return 1;
        close(connection);
    }
}
