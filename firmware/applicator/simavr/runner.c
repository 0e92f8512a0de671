/* Runs the applicator's firmware cycle-true under simavr, its UART on a pseudo-terminal, its EEPROM in a file.
 *
 *   runner ELF EEPROM_FILE [SPEED]
 *
 * Prints the pseudo-terminal's path on its first line. The file follows the EEPROM cell by cell (within a simulated ms), so killing the
 * runner is a power cut. Time runs at SPEED times the wall clock (1 unless told), or slower where the machine can't.
 * Reads lines on stdin:
 *   pin P N V   the level of a pin of the firmware's pin map, as in "pin B 0 1" (e-stop loop open)
 *   reset       the reset button
 * and ends at the end of stdin, so that it never outlives the one who started it. */
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <avr_eeprom.h>
#include <avr_ioport.h>
#include <avr_uart.h>
#include <sim_avr.h>
#include <sim_elf.h>

#define CLOCK_HZ 16000000u
#define EEPROM_SIZE 1024u
#define SLICE (CLOCK_HZ / 1000)

static avr_t *avr;
static int terminal, told;
static bool may_send;
static avr_irq_t *uart_in;
static uint8_t levels[2]; /* of ports B and C: all high, as pulled up, but the two switches, which are closed */

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

static void on_output(struct avr_irq_t *irq, uint32_t value, void *param)
{
    (void)irq, (void)param;
    uint8_t byte = (uint8_t)value;
    if (write(terminal, &byte, 1) != 1) {
        /* nobody reads and the terminal is full: lost, as on a wire without a listener */
    }
}

static void on_flow(struct avr_irq_t *irq, uint32_t value, void *param)
{
    (void)irq;
    if (value)
        may_send = param != NULL;
}

/* What is wired to a pin outweighs its pull-up: said for the next write of PORT, and raised for now. */
static void drive(unsigned port)
{
    uint8_t mask = port == 1 ? 0x7F : 0xFF;
    avr_ioport_external_t wired = {.name = port ? 'C' : 'B', .mask = mask & 0xFFu, .value = levels[port] & mask};
    avr_ioctl(avr, AVR_IOCTL_IOPORT_SET_EXTERNAL('B' + port), &wired);
    for (int pin = 0; mask >> pin & 1; pin++) {
        avr_irq_t *irq = avr_io_getirq(avr, AVR_IOCTL_IOPORT_GETIRQ('B' + port), pin);
        uint32_t level = (levels[port] >> pin) & 1u;
        if (irq->value == level) /* unchanged would not be passed on, though a reset has forgotten it */
            avr_raise_irq(irq, !level);
        avr_raise_irq(irq, level);
    }
}

static void obey(const char *line)
{
    char port;
    unsigned pin, level;
    if (strcmp(line, "reset") == 0) {
        avr_reset(avr);
        drive(0);
        drive(1);
    } else if (sscanf(line, "pin %c %u %u", &port, &pin, &level) == 3 && (port == 'B' || port == 'C') && pin < 8 && level < 2) {
        levels[port - 'B'] = (uint8_t)((levels[port - 'B'] & ~(1u << pin)) | level << pin);
        drive((unsigned)(port - 'B'));
    } else {
        fprintf(stderr, "runner: not understood: %s\n", line);
    }
}

/* False at the end of stdin. */
static bool serve_commands(void)
{
    static char line[64];
    static size_t length;
    char byte;
    struct pollfd stdin_poll = {.fd = 0, .events = POLLIN};
    while (poll(&stdin_poll, 1, 0) > 0) {
        if (read(0, &byte, 1) != 1)
            return false;
        if (byte != '\n' && length < sizeof line - 1) {
            line[length++] = byte;
        } else {
            line[length] = '\0';
            length = 0;
            obey(line);
        }
    }
    return true;
}

static void serve_terminal(void)
{
    uint8_t byte;
    while (may_send && read(terminal, &byte, 1) == 1)
        avr_raise_irq(uart_in, byte);
}

static void open_terminal(void)
{
    int slave;
    struct termios raw;
    char path[128];
    if (openpty(&terminal, &slave, path, NULL, NULL) != 0)
        fail("openpty");
    tcgetattr(slave, &raw);
    cfmakeraw(&raw);
    tcsetattr(slave, TCSANOW, &raw); /* the slave stays open here: the line survives its users */
    fcntl(terminal, F_SETFL, O_NONBLOCK);
    dprintf(told, "%s\n", path);
}

static uint8_t *map_eeprom(const char *path)
{
    struct avr_eeprom_desc_t cells = {.size = EEPROM_SIZE};
    uint8_t blank[EEPROM_SIZE];
    int file = open(path, O_RDWR | O_CREAT, 0644);
    if (file < 0)
        fail(path);
    memset(blank, 0xFF, sizeof blank);
    if (lseek(file, 0, SEEK_END) == 0 && write(file, blank, sizeof blank) != sizeof blank)
        fail(path);
    uint8_t *kept = mmap(NULL, EEPROM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (kept == MAP_FAILED)
        fail(path);
    cells.ee = kept;
    avr_ioctl(avr, AVR_IOCTL_EEPROM_SET, &cells);
    return kept;
}

static uint8_t *live_eeprom(void)
{
    struct avr_eeprom_desc_t cells = {.ee = NULL, .size = EEPROM_SIZE};
    avr_ioctl(avr, AVR_IOCTL_EEPROM_GET, &cells); /* with no buffer it hands out its own */
    return cells.ee;
}

static int64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Waits until the wall clock has caught up; when the machine was too slow, the lost time stays lost. */
static void keep_pace(int64_t slice_ns)
{
    static int64_t due;
    int64_t now = wall_ns();
    if (due == 0 || now > due + 20 * slice_ns)
        due = now;
    due += slice_ns;
    if (due > now) {
        struct timespec wait = {.tv_nsec = (long)(due - now)};
        nanosleep(&wait, NULL);
    }
}

static void build(const char *elf)
{
    elf_firmware_t firmware;
    uint32_t flags = 0;
    memset(&firmware, 0, sizeof firmware);
    if (elf_read_firmware(elf, &firmware) != 0)
        fail(elf);
    avr = avr_make_mcu_by_name("atmega328p");
    if (!avr || avr_init(avr) != 0)
        fail("atmega328p");
    firmware.frequency = CLOCK_HZ;
    avr_load_firmware(avr, &firmware);
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags); /* neither echo nor sleeping */
    uart_in = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUTPUT), on_output, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XON), on_flow, &may_send);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUT_XOFF), on_flow, NULL);
}

int main(int count, char **args)
{
    if (count < 3) {
        fprintf(stderr, "use: runner ELF EEPROM_FILE [SPEED]\n");
        return 2;
    }
    double speed = count > 3 ? atof(args[3]) : 1.0;
    told = dup(1); /* simavr writes to stdout what it loads: that goes to stderr */
    dup2(2, 1);
    signal(SIGPIPE, SIG_IGN);
    build(args[1]);
    uint8_t *kept = map_eeprom(args[2]), *live = live_eeprom();
    levels[0] = 0xFC;
    levels[1] = 0xFF;
    drive(0);
    drive(1);
    open_terminal();
    for (;;) {
        avr_cycle_count_t until = avr->cycle + SLICE;
        while (avr->cycle < until) {
            int state = avr_run(avr);
            if (state == cpu_Done || state == cpu_Crashed) {
                fprintf(stderr, "runner: the firmware has crashed\n");
                return 3;
            }
        }
        if (memcmp(kept, live, EEPROM_SIZE) != 0)
            memcpy(kept, live, EEPROM_SIZE);
        serve_terminal();
        if (!serve_commands())
            return 0;
        keep_pace((int64_t)(1e6 / speed));
    }
}
