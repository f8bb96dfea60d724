// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A PWM chip with no hardware behind it: the PWM core's own sysfs ABI, and its trace events, which show what a chip
 * would have been told. It refuses what real chips may refuse (Documentation/driver-api/pwm.rst on polarity).
 */
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/pwm.h>

static struct platform_device *device;
static struct pwm_chip chip;

static int fake_apply(struct pwm_chip *chip, struct pwm_device *pwm, const struct pwm_state *state)
{
	if (pwm->state.enabled && state->polarity != pwm->state.polarity)
		return -EBUSY;
	return 0;
}

static const struct pwm_ops ops = { .apply = fake_apply, .owner = THIS_MODULE };

static int __init fake_init(void)
{
	int err;

	/* The name is that of the directory which /sys/class/pwm/pwmchipN/device leads to. */
	device = platform_device_register_simple("pwm-fake", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(device))
		return PTR_ERR(device);
	chip.dev = &device->dev;
	chip.ops = &ops;
	chip.npwm = 4;
	err = pwmchip_add(&chip);
	if (err)
		platform_device_unregister(device);
	return err;
}
module_init(fake_init);

static void __exit fake_exit(void)
{
	pwmchip_remove(&chip);
	platform_device_unregister(device);
}
module_exit(fake_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("PWM chip with no hardware");
