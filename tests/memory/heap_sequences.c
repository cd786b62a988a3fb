/* Every sequence of calls, up to a number of them: kmalloc of each of some lengths, kfree of each
 * live buffer.  After each call the heap is sound, and every live buffer holds what was written.
 */

#include "lone_heap.h"

#include "kernmem.h"

#include <string.h>

#define MOST_CALLS 16

struct piece {
    unsigned char *start;
    size_t length;
};

struct watch {
    const size_t *word;
    size_t rose, fell; /* so many calls raised and lowered it */
};

/* Filled in by the caller, up to `digests`; the rest is what was found. */
struct sequences {
    size_t calls;
    size_t kinds;
    const size_t *lengths, *alignments;
    size_t pieces;
    const struct piece *state; /* all that the heap's behaviour depends on */
    unsigned char *saved;      /* room for `calls` copies of it */
    size_t state_length;
    size_t watches;
    struct watch *watched;
    size_t room;
    uint64_t *digests; /* of the state after each sequence */
    size_t sequences;
    size_t failed; /* of them end with a kmalloc that failed */
    size_t depth;  /* of the sequence that went wrong, if one did: */
    size_t sequence[MOST_CALLS]; /* a kind, or `kinds` + which live buffer */
    const char *wrong;
};

struct buffer {
    unsigned char *start;
    size_t length;
    unsigned char mark;
};

struct live {
    size_t count;
    struct buffer buffers[MOST_CALLS];
};

static void save(const struct sequences *s, unsigned char *to)
{
    for (size_t index = 0; index < s->pieces; to += s->state[index++].length)
        memcpy(to, s->state[index].start, s->state[index].length);
}

static void restore(const struct sequences *s, const unsigned char *from)
{
    for (size_t index = 0; index < s->pieces; from += s->state[index++].length)
        memcpy(s->state[index].start, from, s->state[index].length);
}

static uint64_t digest(const struct sequences *s)
{
    uint64_t sum = 0xcbf29ce484222325;

    for (size_t index = 0; index < s->pieces; index++)
        for (size_t at = 0; at < s->state[index].length; at += 4) {
            uint32_t word;
            memcpy(&word, s->state[index].start + at, 4);
            sum = (sum ^ word) * 0x9e3779b97f4a7c15;
            sum ^= sum >> 29;
        }
    return sum;
}

static unsigned char free_mark(const struct live *live)
{
    for (unsigned char mark = 1;; mark++) {
        size_t index = 0;
        while (index < live->count && live->buffers[index].mark != mark)
            index++;
        if (index == live->count)
            return mark;
    }
}

static const char *allocate(struct sequences *s, struct live *live, size_t kind)
{
    struct buffer *new = &live->buffers[live->count];

    new->length = s->lengths[kind];
    new->start = kmalloc(new->length);
    if (!new->start) {
        s->failed++;
        return NULL;
    }
    if ((uintptr_t)new->start % s->alignments[kind] != 0)
        return "the buffer is not aligned";
    new->mark = free_mark(live);
    live->count++;
    memset(new->start, new->mark, new->length);
    return NULL;
}

static void release(struct live *live, size_t index)
{
    kfree(live->buffers[index].start);
    live->count--;
    memmove(&live->buffers[index], &live->buffers[index + 1],
            (live->count - index) * sizeof(struct buffer));
}

static const char *check(const struct live *live)
{
    if (!validate_kernel_heap())
        return "the heap is not sound";
    for (size_t index = 0; index < live->count; index++)
        for (size_t at = 0; at < live->buffers[index].length; at++)
            if (live->buffers[index].start[at] != live->buffers[index].mark)
                return "a live buffer was overwritten";
    return NULL;
}

static const char *walk(struct sequences *s, size_t depth, const struct live *before)
{
    unsigned char *saved = s->saved + depth * s->state_length;

    save(s, saved);
    for (size_t choice = 0; choice < s->kinds + before->count; choice++) {
        struct live live = *before;
        size_t words[MOST_CALLS];
        const char *wrong = NULL;

        for (size_t index = 0; index < s->watches; index++)
            words[index] = *s->watched[index].word;
        s->sequence[depth] = choice;
        s->depth = depth + 1;
        if (choice < s->kinds)
            wrong = allocate(s, &live, choice);
        else
            release(&live, choice - s->kinds);
        for (size_t index = 0; index < s->watches; index++) {
            s->watched[index].rose += *s->watched[index].word > words[index];
            s->watched[index].fell += *s->watched[index].word < words[index];
        }
        if (!wrong)
            wrong = check(&live);
        if (!wrong && s->sequences == s->room)
            wrong = "there are more sequences than room for their digests";
        if (wrong)
            return wrong;
        s->digests[s->sequences++] = digest(s);
        if (depth + 1 < s->calls && (wrong = walk(s, depth + 1, &live)))
            return wrong;
        restore(s, saved);
    }
    return NULL;
}

/* Go through all of them, from the present state on; `wrong` is null if all is well. */
void heap_sequences(struct sequences *s)
{
    struct live none = {0};

    lone_forget_text();
    s->wrong = setjmp(lone_panicked) ? lone_text : walk(s, 0, &none);
}
